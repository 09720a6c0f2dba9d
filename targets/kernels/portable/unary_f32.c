#include "mcugraph_math.h"
#include "mcugraph_unary.h"

static float clip(float x, float low, float high)
{
    if (x < low) {
        x = low;
    }
    return (x > high) ? high : x;
}

/* Functions with parameters. */
static float activation(const struct mcu_unary_f32 *p, float x)
{
    switch (p->kind) {
    case MCU_CLIP:
        return clip(x, p->alpha, p->beta);
    case MCU_LEAKY:
        return (x < 0.0f) ? p->alpha * x : x;
    case MCU_THRESHOLDED:
        return (x > p->alpha) ? x : 0.0f;
    case MCU_HARD_SIGMOID:
        return clip(p->alpha * x + p->beta, 0.0f, 1.0f);
    case MCU_ELU:
        return p->beta * ((x < 0.0f) ? p->alpha * mcu_expm1(x) : x);
    case MCU_CELU:
        return (x < 0.0f) ? p->alpha * mcu_expm1(x / p->alpha) : x;
    default: /* MCU_SWISH */
        return x * mcu_sigmoid(p->alpha * x);
    }
}

static float smooth(int32_t kind, float x)
{
    switch (kind) {
    case MCU_SIGMOID:
        return mcu_sigmoid(x);
    case MCU_TANH:
        return mcu_tanh(x);
    case MCU_HARD_SWISH:
        return x * clip(x * 1.66666667e-1f + 0.5f, 0.0f, 1.0f);
    case MCU_GELU:
        return 0.5f * x * (1.0f + mcu_erf(0.707106781f * x));
    case MCU_GELU_TANH:
        return 0.5f * x * (1.0f + mcu_tanh(0.797884561f * (x + 0.044715f * x * x * x)));
    case MCU_SOFTPLUS:
        return mcu_softplus(x);
    case MCU_SOFTSIGN:
        return x / (1.0f + mcu_absolute(x));
    case MCU_MISH:
        return x * mcu_tanh(mcu_softplus(x));
    case MCU_EXP:
        return mcu_exp(x);
    case MCU_LOG:
        return mcu_log(x);
    case MCU_SQRT:
        return mcu_sqrt(x);
    case MCU_ERF:
        return mcu_erf(x);
    case MCU_SIN:
        return mcu_sine(x, 0);
    default: /* MCU_COS */
        return mcu_sine(x, 1);
    }
}

static float apply(const struct mcu_unary_f32 *p, float x)
{
    switch (p->kind) {
    case MCU_NEG:
        return -x;
    case MCU_ABS:
        return mcu_absolute(x);
    case MCU_RECIPROCAL:
        return 1.0f / x;
    case MCU_FLOOR:
        return mcu_floor(x);
    case MCU_CEIL:
        return -mcu_floor(-x);
    case MCU_ROUND:
        return mcu_rint(x);
    case MCU_SIGN:
        return (x > 0.0f) ? 1.0f : ((x < 0.0f) ? -1.0f : x);
    case MCU_CLIP:
    case MCU_LEAKY:
    case MCU_THRESHOLDED:
    case MCU_HARD_SIGMOID:
    case MCU_ELU:
    case MCU_CELU:
    case MCU_SWISH:
        return activation(p, x);
    default:
        return smooth(p->kind, x);
    }
}

void mcu_unary_f32(const struct mcu_unary_f32 *p, const float *x, float *y, int32_t begin,
                   int32_t end)
{
    for (int32_t row = begin; row < end; row++) {
        const float *in = &x[mcu_slot(row, p->x_depth) * p->row];
        float *out = &y[mcu_slot(row, p->y_depth) * p->row];
        for (int32_t i = 0; i < p->row; i++) {
            out[i] = apply(p, in[i]);
        }
    }
}
