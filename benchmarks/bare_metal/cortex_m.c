/* A Cortex-M4 or M7 from its reset on: vectors, memory, floating point; text and the end through semihosting.
 *
 * Under `qemu-system-arm -icount shift=0` an instruction takes a nanosecond, and SysTick counts 25 million ticks a
 * second on the MPS2 boards: 40 instructions each.
 */
#include "board.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define COPROCESSORS REGISTER(0xE000ED88u)
#define SYSTICK_CONTROL REGISTER(0xE000E010u)
#define SYSTICK_RELOAD REGISTER(0xE000E014u)
#define SYSTICK_VALUE REGISTER(0xE000E018u)

enum { SYS_WRITE0 = 0x04, SYS_EXIT = 0x18, STOPPED = 0x20026, FAILED = 0x20023 };

extern uint32_t initial_stack, data_load, data_begin, data_end, bss_begin, bss_end;
int main(void);

static void semihosting(uint32_t operation, uint32_t argument) {
    register uint32_t r0 __asm__("r0") = operation;
    register uint32_t r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
}

void board_write(const char *text) { semihosting(SYS_WRITE0, (uint32_t)text); }

uint32_t board_ticks(void) { return 0xFFFFFFu - SYSTICK_VALUE; }

static void fault(void) {
    board_write("fault\n");
    semihosting(SYS_EXIT, FAILED);
    for (;;) {
    }
}

void reset(void) {
    uint32_t *to, *from = &data_load;
    COPROCESSORS |= 0xFu << 20;
    __asm__ volatile("dsb\n\tisb");
    for (to = &data_begin; to < &data_end;) {
        *to++ = *from++;
    }
    for (to = &bss_begin; to < &bss_end;) {
        *to++ = 0;
    }
    SYSTICK_RELOAD = 0xFFFFFFu;
    SYSTICK_VALUE = 0;
    SYSTICK_CONTROL = 5; /* runs on the processor's clock, interrupts nobody */
    semihosting(SYS_EXIT, main() == 0 ? STOPPED : FAILED);
    for (;;) {
    }
}

__attribute__((section(".vectors"), used)) static void *const vectors[16] = {
    &initial_stack, (void *)reset, (void *)fault, (void *)fault, (void *)fault, (void *)fault, (void *)fault,
};
