/* The board that is a process of an operating system: text goes to standard output, and nothing is counted. */
#include <stdio.h>

#include "board.h"

void board_write(const char *text) { fputs(text, stdout); }

uint32_t board_ticks(void) { return 0; }
