/* Elementary functions in float32 without libm: a few units in the last place. */
#ifndef MCUGRAPH_MATH_H
#define MCUGRAPH_MATH_H

#include "mcugraph.h"

union mcu_float {
    float value;
    uint32_t bits;
};

static inline float mcu_bits(uint32_t bits)
{
    union mcu_float u;
    u.bits = bits;
    return u.value;
}

static inline float mcu_absolute(float x)
{
    return (x < 0.0f) ? -x : x;
}

/* Nearest integer, half to even; beyond 2^23 every float is one. */
static inline float mcu_rint(float x)
{
    const float large = 8388608.0f;
    if ((x >= large) || (x <= -large) || (x != x)) {
        return x;
    }
    if (x < 0.0f) {
        x = x - large;
        return x + large;
    }
    x = x + large;
    return x - large;
}

static inline float mcu_floor(float x)
{
    float nearest = mcu_rint(x);
    return (nearest > x) ? nearest - 1.0f : nearest;
}

/* x * 2^n for |n| <= 252. */
static inline float mcu_scale(float x, int32_t n)
{
    int32_t half = n / 2;
    x *= mcu_bits((uint32_t)(127 + half) << 23);
    return x * mcu_bits((uint32_t)(127 + (n - half)) << 23);
}

static inline float mcu_exp(float x)
{
    float n;
    float r;
    if (x > 89.0f) {
        return mcu_bits(0x7F800000u);
    }
    if (x < -104.0f) {
        return 0.0f;
    }
    if (x != x) {
        return x;
    }
    n = mcu_rint(x * 1.44269504f);
    r = x - n * 0.693359375f;
    r = r + n * 2.12194440e-4f;
    r = 1.0f + r * (1.0f + r * (0.5f + r * (1.66666667e-1f + r * (4.16666667e-2f +
        r * (8.33333333e-3f + r * (1.38888889e-3f + r * 1.98412698e-4f))))));
    return mcu_scale(r, (int32_t)n);
}

/* exp(x) - 1. */
static inline float mcu_expm1(float x)
{
    if (mcu_absolute(x) > 0.25f) {
        return mcu_exp(x) - 1.0f;
    }
    return x * (1.0f + x * (0.5f + x * (1.66666667e-1f + x * (4.16666667e-2f +
           x * (8.33333333e-3f + x * 1.38888889e-3f)))));
}

/* 2 atanh(s) for |s| < 0.18: log((1 + s) / (1 - s)). */
static inline float mcu_log_ratio(float s)
{
    float q = s * s;
    return 2.0f * s * (1.0f + q * (3.33333333e-1f + q * (0.2f + q * (1.42857143e-1f +
           q * 1.11111111e-1f))));
}

static inline float mcu_log(float x)
{
    union mcu_float u;
    int32_t n = 0;
    if (!(x > 0.0f)) {
        return (x < 0.0f) ? (x - x) / (x - x) : ((x != x) ? x : mcu_bits(0xFF800000u));
    }
    if (x > 3.4028234e38f) {
        return x;
    }
    if (x < 1.17549435e-38f) {
        x *= 16777216.0f;
        n = -24;
    }
    u.value = x;
    n += (int32_t)(u.bits >> 23) - 127;
    u.bits = (u.bits & 0x007FFFFFu) | 0x3F800000u;
    if (u.value > 1.41421356f) {
        u.value *= 0.5f;
        n++;
    }
    x = mcu_log_ratio((u.value - 1.0f) / (u.value + 1.0f));
    return ((float)n * 0.693359375f) + (x - (float)n * 2.12194440e-4f);
}

/* log(1 + x). */
static inline float mcu_log1p(float x)
{
    return (mcu_absolute(x) < 0.25f) ? mcu_log_ratio(x / (2.0f + x)) : mcu_log(1.0f + x);
}

static inline float mcu_sigmoid(float x)
{
    float e = mcu_exp(-mcu_absolute(x));
    return (x < 0.0f) ? e / (1.0f + e) : 1.0f / (1.0f + e);
}

static inline float mcu_tanh(float x)
{
    float q = x * x;
    float large = mcu_absolute(x);
    if (large < 0.25f) {
        return x * (1.0f - q * (3.33333333e-1f - q * (1.33333333e-1f - q * (5.39682540e-2f -
               q * 2.18694885e-2f))));
    }
    large = 1.0f - 2.0f / (mcu_exp(2.0f * large) + 1.0f);
    return (x < 0.0f) ? -large : large;
}

/* log(1 + exp(x)). */
static inline float mcu_softplus(float x)
{
    return ((x > 0.0f) ? x : 0.0f) + mcu_log1p(mcu_exp(-mcu_absolute(x)));
}

static inline float mcu_erf(float x)
{
    float z = mcu_absolute(x);
    float term = 1.12837917f * x;
    float sum = term;
    float t;
    if (z < 1.0f) { /* its power series */
        for (int32_t n = 1; n < 11; n++) {
            term *= -x * x / (float)n;
            sum += term / (float)(2 * n + 1);
        }
        return sum;
    }
    t = 1.0f / (1.0f + 0.5f * z); /* Chebyshev, W. J. Cody's form in Numerical Recipes (erfcc) */
    t = t * mcu_exp(-z * z - 1.26551223f + t * (1.00002368f + t * (0.37409196f + t * (0.09678418f +
        t * (-0.18628806f + t * (0.27886807f + t * (-1.13520398f + t * (1.48851587f +
        t * (-0.82215223f + t * 0.17087277f)))))))));
    return (x < 0.0f) ? t - 1.0f : 1.0f - t;
}

static inline float mcu_sqrt(float x)
{
    union mcu_float u;
    float scale = 1.0f;
    if (!(x > 0.0f) || (x > 3.4028234e38f)) {
        return (x < 0.0f) ? (x - x) / (x - x) : x;
    }
    if (x < 1.17549435e-38f) {
        x *= 16777216.0f;
        scale = 2.44140625e-4f;
    }
    u.value = x;
    u.bits = (u.bits >> 1) + 0x1FBD1DF5u;
    for (int32_t n = 0; n < 3; n++) {
        u.value = 0.5f * (u.value + x / u.value);
    }
    return u.value * scale;
}

/* sin(x + quarters * pi / 2); good for |x| below some thousands. */
static inline float mcu_sine(float x, int32_t quarters)
{
    float n = mcu_rint(x * 0.636619772f);
    float r = ((x - n * 1.5703125f) - n * 4.83751297e-4f) - n * 7.54978995e-8f;
    float q = r * r;
    quarters = (quarters + (int32_t)n) & 3;
    if ((quarters & 1) != 0) {
        r = 1.0f - q * (0.5f - q * (4.16666667e-2f - q * (1.38888889e-3f - q * 2.48015873e-5f)));
    } else {
        r = r * (1.0f - q * (1.66666667e-1f - q * (8.33333333e-3f - q * (1.98412698e-4f -
            q * 2.75573192e-6f))));
    }
    return ((quarters & 2) != 0) ? -r : r;
}

/* x^y: by products where y is a small integer, else of a positive x. */
static inline float mcu_pow(float x, float y)
{
    float whole = mcu_rint(y);
    float result = 1.0f;
    if ((whole == y) && (mcu_absolute(y) <= 16.0f)) {
        for (float n = mcu_absolute(y); n > 0.5f; n -= 1.0f) {
            result *= x;
        }
        return (y < 0.0f) ? 1.0f / result : result;
    }
    if (y == 0.5f) {
        return mcu_sqrt(x);
    }
    if ((x < 0.0f) && (whole == y)) {
        result = mcu_exp(y * mcu_log(-x));
        return (mcu_rint(0.5f * y) * 2.0f == y) ? result : -result;
    }
    return mcu_exp(y * mcu_log(x));
}

#endif
