/* Reset of a Cortex-M with an FPU: vector table, FPU on, .data copied, .bss zeroed, main. */
#include <stdint.h>

extern uint32_t cofit_data_load[], cofit_data_begin[], cofit_data_end[];
extern uint32_t cofit_bss_begin[], cofit_bss_end[], cofit_stack_top[];

int main(void);
void Reset_Handler(void);
void cofit_stop(void);
void cofit_fault(void);

/* The end of the program: a debugger halts here, the emulator takes it as the stop address. */
__attribute__((noinline, used)) void cofit_stop(void) {
  for (;;) __asm__ volatile("bkpt 0");
}

__attribute__((noinline, used)) void cofit_fault(void) {
  for (;;) __asm__ volatile("bkpt 1");
}

void Reset_Handler(void) {
  volatile uint32_t *const cpacr = (volatile uint32_t *)0xE000ED88u;
  *cpacr |= 0xFu << 20; /* full access to coprocessors 10 and 11, the FPU */
  __asm__ volatile("dsb\n\tisb" ::: "memory");
  const uint32_t *source = cofit_data_load;
  for (uint32_t *word = cofit_data_begin; word < cofit_data_end;) *word++ = *source++;
  for (uint32_t *word = cofit_bss_begin; word < cofit_bss_end;) *word++ = 0;
  (void)main();
  cofit_stop();
}

typedef union {
  void (*handler)(void);
  const uint32_t *stack;
} vector;

__attribute__((section(".vectors"), used)) const vector cofit_vectors[16] = {
    {.stack = cofit_stack_top},
    {.handler = Reset_Handler},
    {.handler = cofit_fault}, /* NMI */
    {.handler = cofit_fault}, /* HardFault */
    {.handler = cofit_fault}, /* MemManage */
    {.handler = cofit_fault}, /* BusFault */
    {.handler = cofit_fault}, /* UsageFault */
    {.handler = 0},           {.handler = 0},           {.handler = 0}, {.handler = 0},
    {.handler = cofit_fault}, /* SVCall */
    {.handler = cofit_fault}, /* DebugMonitor */
    {.handler = 0},
    {.handler = cofit_fault}, /* PendSV */
    {.handler = cofit_fault}, /* SysTick */
};
