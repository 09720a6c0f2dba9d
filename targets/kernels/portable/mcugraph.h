/* What all kernels share: fixed-width types, rows of ring buffers, requantisation. */
#ifndef MCUGRAPH_H
#define MCUGRAPH_H

#include <stddef.h>
#include <stdint.h>

/* ARMv6-M and ARMv8-M Baseline multiply 32 x 32 -> 32 bits only. Both ways give the same bits. */
#if !defined(MCU_MULTIPLY_16) && defined(__ARM_ARCH_ISA_THUMB)
#if __ARM_ARCH_ISA_THUMB == 1
#define MCU_MULTIPLY_16 1
#endif
#endif

#if defined(MCU_MULTIPLY_16) && defined(__GNUC__)
#define MCU_OUTLINE __attribute__((noinline, unused))
#else
#define MCU_OUTLINE inline
#endif

/* Before a loop that is unrolled by hand as far as it pays. */
#if defined(__clang__)
#define MCU_ROLLED _Pragma("clang loop unroll(disable)")
#else
#define MCU_ROLLED
#endif

/* Small cores have few registers: an inner loop of its own keeps them all. */
#if defined(__GNUC__)
#define MCU_NOINLINE __attribute__((noinline))
#else
#define MCU_NOINLINE
#endif

#if (-1 >> 1) != -1
#error "the kernels need a right shift of negative numbers that keeps the sign"
#endif

/* Where row stands in a ring of depth rows. */
static inline int32_t mcu_slot(int32_t row, int32_t depth)
{
    MCU_ROLLED
    while (row >= depth) {
        row -= depth;
    }
    return row;
}

static inline int32_t mcu_clamp(int32_t value, int32_t low, int32_t high)
{
    if (value < low) {
        value = low;
    }
    if (value > high) {
        value = high;
    }
    return value;
}

static inline float mcu_clamp_f32(float value, float low, float high)
{
    if (value < low) {
        value = low;
    }
    if (value > high) {
        value = high;
    }
    return value;
}

/*
 * The upper 32 bits of a * b. |a| <= 0x7FFC0000 (checked by the compiler), 0 <= b.
 * With halves in -2^15 .. 2^15 the sum of the cross products stays in 32 bits.
 */
static inline int32_t mcu_multiply_high(int32_t a, int32_t b)
{
#ifdef MCU_MULTIPLY_16
    int32_t a_low = (int16_t)(uint16_t)((uint32_t)a & 0xFFFFu);
    int32_t b_low = (int16_t)(uint16_t)((uint32_t)b & 0xFFFFu);
    int32_t a_high = (a - a_low) >> 16;
    int32_t b_high = (int32_t)(((uint32_t)b - (uint32_t)b_low) >> 16);
    int32_t middle = a_high * b_low + a_low * b_high + ((a_low * b_low) >> 16);
    return a_high * b_high + (middle >> 16);
#else
    return (int32_t)(((int64_t)a * b) >> 32);
#endif
}

/*
 * acc * multiplier / 2^(33 + shift), rounded once, half to even. |acc| <= 0x7FFC0000,
 * 0 <= multiplier < 2^31, -27 <= shift <= 29. Beyond 2^26 only the sign of the result counts.
 */
static MCU_OUTLINE int32_t mcu_requantize(int32_t acc, int32_t multiplier, int32_t shift)
{
    int32_t high;
    int32_t halves;
    if (shift < 0) { /* a ratio of 1/4 or more */
        int32_t limit = 0x7FFC0000 >> -shift;
        acc = mcu_clamp(acc, -limit, limit) * (int32_t)((uint32_t)1 << -shift);
        shift = 0;
    }
    high = mcu_multiply_high(acc, multiplier);
    halves = high >> shift;
    if (((uint32_t)acc * (uint32_t)multiplier) != 0u) {
        return (halves + 1) >> 1;
    }
    if ((uint32_t)high != ((uint32_t)halves << shift)) {
        return (halves + 1) >> 1;
    }
    return ((halves + 1) >> 1) & ~(halves & 1); /* a tie: the even neighbour */
}

#endif
