/* Decides on a stream of observations that is compiled in; writes every action's bits, and at the end the ticks.
 *
 * `contestant.h` names the stream and what decides: contestant_reset(), contestant_act(obs, action).
 */
#include "board.h"
#include "contestant.h"

static float action[CONTESTANT_ACTIONS];

static void write_bits(float value) {
    char text[10];
    uint32_t bits;
    int place;
    __builtin_memcpy(&bits, &value, sizeof bits);
    for (place = 7; place >= 0; place--, bits >>= 4) {
        text[place] = "0123456789abcdef"[bits & 15u];
    }
    text[8] = '\n';
    text[9] = 0;
    board_write(text);
}

static void write_number(const char *label, uint64_t value) {
    char text[24];
    int place = 22;
    text[22] = '\n';
    text[23] = 0;
    do {
        text[--place] = (char)('0' + (int)(value % 10u));
        value /= 10u;
    } while (value != 0);
    board_write(label);
    board_write(text + place);
}

int main(void) {
    uint64_t ticks = 0;
    int step, k;
    contestant_reset();
    for (step = 0; step < CONTESTANT_DECISIONS; step++) {
        const uint32_t begin = board_ticks();
        contestant_act(observations[step], action);
        ticks += BOARD_BETWEEN(begin, board_ticks());
        for (k = 0; k < CONTESTANT_ACTIONS; k++) {
            write_bits(action[k]);
        }
    }
    write_number("ticks ", ticks);
    return 0;
}
