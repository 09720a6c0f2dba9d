/* Kernels that move elements; all sizes, offsets and steps are in bytes, so that any type will do. */
#ifndef MCUGRAPH_MOVEMENT_H
#define MCUGRAPH_MOVEMENT_H

#include "mcugraph.h"

/* Copies bytes; through table[byte + 128] where table is not NULL, which changes int8 scales. */
static inline void mcu_move(const int8_t *x, int8_t *y, int32_t size, const int8_t *table)
{
    if (table == NULL) {
        for (int32_t i = 0; i < size; i++) {
            y[i] = x[i];
        }
    } else {
        for (int32_t i = 0; i < size; i++) {
            y[i] = table[x[i] + 128];
        }
    }
}

/*
 * One operand of a concatenation: output row r holds, from y_offset on, `blocks` blocks, y_step
 * apart, of input row r - y_first. Output rows that this operand does not touch are left alone.
 */
struct mcu_concat {
    int32_t x_rows;
    int32_t x_depth;
    int32_t x_row;
    int32_t y_depth;
    int32_t y_row;
    int32_t y_first;
    int32_t y_offset;
    int32_t y_step;
    int32_t blocks;
    int32_t block;
    const int8_t *table;
};

#define MCU_LOOPS 8

/*
 * Output row r is counts[0] x counts[1] x .. blocks of input row r + x_first, in this order, read
 * from x_offset on with a step for each count. loops <= MCU_LOOPS.
 */
struct mcu_permute {
    int32_t x_depth;
    int32_t x_row;
    int32_t x_first;
    int32_t x_offset;
    int32_t y_depth;
    int32_t y_row;
    int32_t loops;
    const int32_t *counts;
    const int32_t *steps;
    int32_t block;
    const int8_t *table;
};

/*
 * Output pixel (r, w) is y_before filling bytes, the `block` bytes of input pixel
 * (rows[r], columns[w]), and y_after filling bytes; only filling where an index is negative. Pixels
 * of y are y_step bytes apart.
 * fill holds an element of `size` bytes, lowest byte first.
 */
struct mcu_take {
    int32_t x_depth;
    int32_t x_row;
    int32_t y_depth;
    int32_t y_width;
    int32_t y_step;
    int32_t y_before;
    int32_t block;
    int32_t y_after;
    int32_t fill;
    int32_t size;
    const int16_t *rows;
    const int16_t *columns;
    const int8_t *table;
};

void mcu_concat(const struct mcu_concat *p, const void *x, void *y, int32_t begin, int32_t end);
void mcu_permute(const struct mcu_permute *p, const void *x, void *y, int32_t begin, int32_t end);
void mcu_take(const struct mcu_take *p, const void *x, void *y, int32_t begin, int32_t end);

#endif
