/* tiny: a neural network for cortex-m0, written by mcugraph. */
#include "tiny.h"

#include <stddef.h>

#include "mcugraph.h"
#include "mcugraph_conv.h"
#include "mcugraph_dot.h"
#include "mcugraph_gather.h"
#include "mcugraph_pool.h"

/* All that is used of a C library; string.h may be missing on a bare core. */
void *memcpy(void *restrict to, const void *restrict from, size_t size);

/* Called before each step and after the last: define it to time or to trace them. */
#ifndef TINY_HOOK
#define TINY_HOOK(step) ((void)0)
#endif

/* A C99 compiler knows _Static_assert at most as an extension. */
#if defined(__GNUC__)
#define MCU_STATIC_ASSERT(condition, name) __extension__ _Static_assert(condition, #name)
#else
#define MCU_STATIC_ASSERT(condition, name) extern char name[(condition) ? 1 : -1]
#endif

MCU_STATIC_ASSERT(0 + TINY_INPUT_BYTES <= TINY_ARENA_BYTES, input_is_in_the_arena);
MCU_STATIC_ASSERT(0 + TINY_OUTPUT_BYTES <= TINY_ARENA_BYTES, output_is_in_the_arena);

static const uint8_t tiny_n5_weights[36] = {
    217, 208, 128, 128, 163, 166, 128, 128, 131, 233, 128, 128, 69, 129, 128, 128, 79, 155, 128,
    128, 11, 248, 128, 128, 20, 187, 128, 128, 5, 162, 128, 128, 45, 139, 128, 128,
};

static const int32_t tiny_n5_bias[2] = {
    1236, -1425,
};

static const int32_t tiny_n5_multiplier[1] = {
    1717987072,
};

static const int8_t tiny_n5_shift[1] = {
    4,
};

static const struct mcu_conv_s8 tiny_n5 = {
    .weights = tiny_n5_weights,
    .bias = tiny_n5_bias,
    .multiplier = tiny_n5_multiplier,
    .shift = tiny_n5_shift,
    .scale_mask = 0,
    .y_zero = -128,
    .low = -128,
    .high = 127,
    .groups = 1,
    .group_inputs = 1,
    .group_outputs = 2,
    .x_zero = 3,
    .x_depth = 4,
    .y_depth = 2,
    .x_channels = 1,
    .y_channels = 2,
    .y_step = 2,
    .x_height = 4,
    .x_width = 4,
    .y_width = 2,
    .kernel_height = 3,
    .kernel_width = 3,
    .stride_height = 1,
    .stride_width = 1,
    .dilation_height = 1,
    .dilation_width = 1,
    .pad_top = 0,
    .pad_left = 0,
};

static const struct mcu_maxpool_s8 tiny_n9 = {
    .x_height = 2,
    .x_width = 2,
    .y_width = 1,
    .kernel_height = 2,
    .kernel_width = 2,
    .stride_height = 1,
    .stride_width = 1,
    .dilation_height = 1,
    .dilation_width = 1,
    .pad_top = 0,
    .pad_left = 0,
    .channels = 2,
    .y_step = 2,
    .x_depth = 2,
    .y_depth = 1,
    .table = NULL,
};

int8_t *tiny_input_at(void *arena)
{
    return (void *)((int8_t *)arena + 0);
}

const int8_t *tiny_output_at(const void *arena)
{
    return (const void *)((const int8_t *)arena + 0);
}

void tiny_run_at(void *arena)
{
    int8_t *const a = arena;
    (void)a;

    TINY_HOOK(0);
    /* Conv n5: int8[1][2][2][2] at 12 */
    for (int32_t row = 2; row > 0; row--) {
        mcu_conv_s8(&tiny_n5, (void *)(a + 0), (void *)(a + 12), (void *)(a + 20), row - 1, row);
    }

    TINY_HOOK(1);
    /* MaxPool n9: int8[1][1][1][2] at 0 */
    mcu_maxpool_s8(&tiny_n9, (void *)(a + 12), (void *)(a + 0), 0, 1);

    TINY_HOOK(2);
}

void tiny_infer_at(void *arena, const int8_t *in, int8_t *out)
{
    memcpy(tiny_input_at(arena), in, 16);
    tiny_run_at(arena);
    memcpy(out, tiny_output_at(arena), 2);
}

static union { int8_t bytes[TINY_ARENA_BYTES]; uint64_t align; } tiny_arena;

int8_t *tiny_input(void)
{
    return tiny_input_at(&tiny_arena);
}

const int8_t *tiny_output(void)
{
    return tiny_output_at(&tiny_arena);
}

void tiny_run(void)
{
    tiny_run_at(&tiny_arena);
}

void tiny_infer(const int8_t *in, int8_t *out)
{
    tiny_infer_at(&tiny_arena, in, out);
}
