/* What a program needs of the machine it runs on: text out, and a clock that counts instructions. */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

void board_write(const char *text);

/* Counts up; its unit is the emulator's business. 0 where nothing is counted. */
uint32_t board_ticks(void);

/* Ticks from one reading to the next; the clock has 24 bits. */
#define BOARD_BETWEEN(begin, end) (((end) - (begin)) & 0xFFFFFFu)

#endif
