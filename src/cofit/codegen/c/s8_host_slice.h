/* Channels whose sums are held at once. */
enum { S8_SLICE = 64 };
