/* A Cortex-M4 as qemu's mps2-an386: vectors, memory, a clock that counts instructions (with -icount shift=0). */
#include <stdint.h>

extern uint32_t load_of_data, start_of_data, end_of_data, start_of_bss, end_of_bss, top_of_stack;
extern void initialise_monitor_handles(void);
extern int main(void);
void exit(int);

#define SYSTICK ((volatile uint32_t *)0xE000E010)
#define INSTRUCTIONS_PER_TICK 40u /* 25 MHz beside one instruction a nanosecond */
enum { PAINT = 0xA5A5A5A5u, STACK_WORDS = 4096 };

void clock_start(void)
{
    SYSTICK[1] = 0xFFFFFF;
    SYSTICK[2] = 0;
    SYSTICK[0] = 5; /* the processor's clock, no interrupt */
    while (SYSTICK[2] == 0) {} /* it is loaded at the first tick */
}

uint32_t clock_instructions(void) { return (0xFFFFFF - SYSTICK[2]) * INSTRUCTIONS_PER_TICK; }

/* The stack below the caller's frame is painted; what was used of it is seen afterwards. */
void stack_paint(void)
{
    volatile uint32_t here;
    volatile uint32_t *p = &here - 16;
    for (uint32_t i = 0; i < STACK_WORDS; i++) *--p = PAINT;
}

uint32_t stack_used(void)
{
    volatile uint32_t here;
    volatile uint32_t *low = &here - 16 - STACK_WORDS, *p = low;
    while (*p == PAINT) p++;
    return (uint32_t)((uintptr_t)(&here) - (uintptr_t)p);
}

static void fault(void) { exit(99); }

static void reset(void)
{
    volatile uint32_t *from = &load_of_data;
    *(volatile uint32_t *)0xE000ED88 |= 0xF << 20; /* floating point */
    for (volatile uint32_t *to = &start_of_data; to < &end_of_data;) *to++ = *from++;
    for (volatile uint32_t *to = &start_of_bss; to < &end_of_bss;) *to++ = 0;
    initialise_monitor_handles();
    exit(main());
}

__attribute__((section(".vectors"), used)) static const void *const vectors[16] = {
    &top_of_stack, (const void *)reset, (const void *)fault, (const void *)fault, (const void *)fault, (const void *)fault,
    (const void *)fault,
};
