/* A program with what compilers make of common C: for builds, runs, and counts that must agree. */
#include <stddef.h>
#include <stdint.h>

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memset(void *to, int value, size_t size);

#define APART __attribute__((noinline))

static int32_t table[64];
static int32_t copy[64];
static volatile int32_t seed = 7;
static uint8_t bytes[70] = {1, 2, 3, 250};
int32_t shared_word = 41;

int32_t add_one(int32_t value);
int32_t wide_frame(int32_t n);
int32_t fibonacci(int32_t n);
int64_t mix(int64_t a, int64_t b);
int32_t choose(int32_t which, int32_t x);
int32_t load_word(const void *at);
void store_word(uint32_t address, int32_t value);
int32_t deep(int32_t n);
void jump(uint32_t address);
void spin(void);
int32_t sum4(int32_t a, int32_t b, int32_t c, int32_t d);
int32_t straight(int32_t a);
int32_t halves(const int16_t *x, int32_t n);
int32_t scale(int32_t n);

APART int32_t add_one(int32_t value)
{
    return value + 1;
}

APART int32_t sum4(int32_t a, int32_t b, int32_t c, int32_t d)
{
    return a + 2 * b + 3 * c + 4 * d;
}

APART int64_t mix(int64_t a, int64_t b)
{
    return a * b + (a >> 3);
}

APART int32_t fibonacci(int32_t n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

APART int32_t wide_frame(int32_t n)
{
    volatile int32_t room[300];
    int32_t i;
    for (i = 0; i < n; i++) {
        room[i] = i;
    }
    return room[n / 2] + add_one(room[n - 1]);
}

/* A frame that is made and left without a jump between. */
APART int32_t straight(int32_t a)
{
    volatile int32_t room[400];
    room[0] = a;
    room[399] = a;
    return room[0] + room[399];
}

APART int32_t choose(int32_t which, int32_t x)
{
    switch (which) {
    case 0: return x + seed;
    case 1: return x * seed;
    case 2: return x - 3;
    case 3: return x ^ 0x55;
    case 4: return x / (seed + 2);
    case 5: return (int32_t)((uint32_t)x % 7u);
    case 6: return x << 2;
    default: return 0;
    }
}

APART int32_t load_word(const void *at)
{
    const volatile int32_t *word = at;
    return *word;
}

APART void store_word(uint32_t address, int32_t value)
{
    *(volatile int32_t *)(uintptr_t)address = value;
}

APART int32_t deep(int32_t n)
{
    volatile int32_t here[8];
    here[n & 7] = n;
    return seed == 0 ? 0 : deep(n + 1) + here[n & 7];
}

APART void jump(uint32_t address)
{
    ((void (*)(void))(uintptr_t)address)();
}

APART void spin(void)
{
    while (seed != 0) {
    }
}

APART int32_t halves(const int16_t *x, int32_t n)
{
    int32_t i, sum = 0;
    for (i = 0; i < n; i++) {
        sum += x[i] * (int32_t)(int8_t)x[n - 1 - i];
    }
    return sum;
}

APART int32_t scale(int32_t n)
{
    float x = (float)n;
    return (int32_t)(x * 1.5f + 0.25f / (x + 1.0f));
}

int main(void)
{
    int32_t i;
    int64_t sum = 0;
    for (i = 0; i < 64; i++) {
        table[i] = i * seed;
    }
    memcpy(copy, table, sizeof copy);
    memcpy(bytes + 1, bytes + 35, (size_t)(seed + 20));
    memset(table, 1, (size_t)(seed * 13));
    for (i = 0; i < 64; i++) {
        sum = mix(sum + copy[i], table[i] + bytes[i]);
        sum += choose(i & 7, (int32_t)(sum & 0xFFFF));
    }
    sum += fibonacci(10) + wide_frame(40) + sum4(1, 2, 3, seed) + shared_word;
    sum += halves((const int16_t *)(const void *)copy, 100) + scale(seed) + straight(seed);
    return (int)((sum ^ (sum >> 20)) & 63);
}
