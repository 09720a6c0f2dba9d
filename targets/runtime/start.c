/* Start-up of a bare Cortex-M: vector table, initial data, main, and exit by semihosting.
 * Also the four memory functions that compilers may call by themselves. */
#include <stddef.h>
#include <stdint.h>

struct vectors {
    uint32_t *stack;
    void (*handlers[15])(void);
};

extern uint32_t __stack_top[], __data_load[], __data_start[], __data_end[];
extern uint32_t __bss_start[], __bss_end[];

int main(void);
void Reset_Handler(void);
void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
int memcmp(const void *left, const void *right, size_t size);

/* A debugger or an emulator serves the request in r0 with its argument in r1. */
static void semihost(uint32_t request, const void *argument)
{
    register uint32_t r0 __asm__("r0") = request;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
}

static void leave(uint32_t code)
{
    const uint32_t argument[2] = {0x20026u, code};
    semihost(0x20u, argument);
    for (;;) {
    }
}

static void fault(void)
{
    semihost(0x04u, "fault\n");
    leave(99u);
}

__attribute__((section(".vectors"), used)) const struct vectors vectors = {
    __stack_top,
    {Reset_Handler, fault, fault, fault, fault, fault, NULL, NULL, NULL, NULL, fault, fault, NULL,
     fault, fault}};

/* Firmware without a main of its own is called into, function by function. */
__attribute__((weak)) int main(void)
{
    return 0;
}

void Reset_Handler(void)
{
    uint32_t *to;
    const uint32_t *from = __data_load;
#if defined(__ARM_FP)
    *(volatile uint32_t *)0xE000ED88u |= (uint32_t)0xF << 20;
    __asm__ volatile("dsb\n isb");
#endif
    for (to = __data_start; to < __data_end; to++) {
        *to = *from++;
    }
    for (to = __bss_start; to < __bss_end; to++) {
        *to = 0u;
    }
    leave((uint32_t)main());
}

/* An empty asm in each loop keeps compilers from turning the loop into a call of the function
 * that it implements. */
#define KEEP_LOOP __asm__ volatile("")

void *memcpy(void *restrict to, const void *restrict from, size_t size)
{
    unsigned char *d = to;
    const unsigned char *s = from;
    if ((((uintptr_t)to | (uintptr_t)from) & 3u) == 0u) {
        uint32_t *dw = to;
        const uint32_t *sw = from;
        for (; size >= 16u; size -= 16u) {
            const uint32_t a = sw[0], b = sw[1], c = sw[2], e = sw[3];
            dw[0] = a;
            dw[1] = b;
            dw[2] = c;
            dw[3] = e;
            sw += 4;
            dw += 4;
            KEEP_LOOP;
        }
        for (; size >= 4u; size -= 4u) {
            *dw++ = *sw++;
            KEEP_LOOP;
        }
        d = (unsigned char *)dw;
        s = (const unsigned char *)sw;
    }
    for (; size > 0u; size--) {
        *d++ = *s++;
        KEEP_LOOP;
    }
    return to;
}

void *memmove(void *to, const void *from, size_t size)
{
    unsigned char *d = to;
    const unsigned char *s = from;
    if ((uintptr_t)to - (uintptr_t)from >= size) {
        return memcpy(to, from, size);
    }
    while (size > 0u) {
        size--;
        d[size] = s[size];
        KEEP_LOOP;
    }
    return to;
}

void *memset(void *to, int value, size_t size)
{
    unsigned char *d = to;
    if (((uintptr_t)to & 3u) == 0u) {
        const uint32_t word = (uint32_t)(unsigned char)value * 0x01010101u;
        uint32_t *dw = to;
        for (; size >= 4u; size -= 4u) {
            *dw++ = word;
            KEEP_LOOP;
        }
        d = (unsigned char *)dw;
    }
    for (; size > 0u; size--) {
        *d++ = (unsigned char)value;
        KEEP_LOOP;
    }
    return to;
}

int memcmp(const void *left, const void *right, size_t size)
{
    const unsigned char *a = left;
    const unsigned char *b = right;
    for (; size > 0u; size--, a++, b++) {
        if (*a != *b) {
            return (int)*a - (int)*b;
        }
        KEEP_LOOP;
    }
    return 0;
}
