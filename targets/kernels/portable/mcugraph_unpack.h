/* Numbers of table entries, packed into bytes, turned into the entries. */
#ifndef MCUGRAPH_UNPACK_H
#define MCUGRAPH_UNPACK_H

#include "mcugraph.h"

static MCU_NOINLINE void mcu_unpack_4(const uint8_t *from, const uint8_t *values, uint8_t *to,
                                      int32_t fours)
{
    const uint8_t *end = &from[2 * fours];
    MCU_ROLLED
    while (from != end) {
        uint32_t pair = from[0];
        to[0] = values[pair & 15u];
        to[1] = values[pair >> 4];
        pair = from[1];
        to[2] = values[pair & 15u];
        to[3] = values[pair >> 4];
        from += 2;
        to += 4;
    }
}

static MCU_NOINLINE void mcu_unpack_2(const uint8_t *from, const uint8_t *values, uint8_t *to,
                                      int32_t fours)
{
    const uint8_t *end = &from[fours];
    MCU_ROLLED
    while (from != end) {
        uint32_t four = *from;
        to[0] = values[four & 3u];
        to[1] = values[(four >> 2) & 3u];
        to[2] = values[(four >> 4) & 3u];
        to[3] = values[four >> 6];
        from++;
        to += 4;
    }
}

/* Four entries for each of `fours` from a stream of numbers; returns where the stream goes on. */
static inline const uint8_t *mcu_unpack(const uint8_t *from, const uint8_t *values, int32_t bits,
                                        uint8_t *to, int32_t fours)
{
    if (bits == 4) {
        mcu_unpack_4(from, values, to, fours);
        return &from[2 * fours];
    }
    mcu_unpack_2(from, values, to, fours);
    return &from[fours];
}

#endif
