#include "s8_host_layer.h"

/* How an entry of a list finds its elements: one index for neighbours; two indices; two indices
   from each row's own channel on. */
typedef enum { S8_ADJACENT, S8_APART, S8_CHANNELS } s8_access;

/* How tiles of pixels walk over a plane. */
typedef struct {
    int32_t row;     /* elements from the windows of one output row to those of the next */
    int32_t pixel;   /* elements from one window to the next */
    int32_t columns; /* outputs of a row: `larger` tiles of `pixels`, the others one smaller */
    int32_t larger;
    int32_t pixels;
    s8_access access;
    int wide; /* whether the weights are int16 */
} s8_walk;
