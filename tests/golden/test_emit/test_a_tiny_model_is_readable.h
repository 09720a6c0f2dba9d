/* tiny: a neural network for cortex-m0, written by mcugraph. */
#ifndef TINY_H
#define TINY_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The bytes of one inference, inputs and outputs included; aligned to 8 bytes. */
#define TINY_ARENA_BYTES 32

/* "image": int8_t[1][4][4][1], in ONNX [1, 1, 4, 4]; real = 0.0500000007 * (q - 3) */
#define TINY_INPUT_SIZE 16
#define TINY_INPUT_BYTES 16
#define TINY_INPUT_SCALE 0.0500000007f
#define TINY_INPUT_ZERO_POINT (3)

/* "peaks": int8_t[1][1][1][2], in ONNX [1, 2, 1, 1]; real = 0.0399999991 * (q - -128) */
#define TINY_OUTPUT_SIZE 2
#define TINY_OUTPUT_BYTES 2
#define TINY_OUTPUT_SCALE 0.0399999991f
#define TINY_OUTPUT_ZERO_POINT (-128)

/* Write the input there, run, read the output there: all on one static arena. */
int8_t *tiny_input(void);
void tiny_run(void);
const int8_t *tiny_output(void);

/* The same with copies of input and output. */
void tiny_infer(const int8_t *in, int8_t *out);

/* The same on an arena of yours: reentrant. */
int8_t *tiny_input_at(void *arena);
void tiny_run_at(void *arena);
const int8_t *tiny_output_at(const void *arena);
void tiny_infer_at(void *arena, const int8_t *in, int8_t *out);

#ifdef __cplusplus
}
#endif

#endif
