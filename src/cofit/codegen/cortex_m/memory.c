/* The four functions that a C compiler may call on its own, and their names in the ARM ABI.
   Words are moved at any address: Cortex-M4 and M7 load and store unaligned words. */
#include <stddef.h>
#include <stdint.h>

typedef uint32_t __attribute__((aligned(1), may_alias)) word;

void *memcpy(void *restrict to, const void *restrict from, size_t size);
void *memmove(void *to, const void *from, size_t size);
void *memset(void *to, int value, size_t size);
void __aeabi_memcpy(void *restrict to, const void *restrict from, size_t size);
void __aeabi_memmove(void *to, const void *from, size_t size);
void __aeabi_memset(void *to, size_t size, int value);
void __aeabi_memclr(void *to, size_t size);

/* Each group is read before it is written, so `to` may lie below an overlapping `from`. */
static inline void copy_upwards(unsigned char *d, const unsigned char *s, size_t size) {
  for (; size >= 16; size -= 16, d += 16, s += 16) {
    const word a = ((const word *)s)[0], b = ((const word *)s)[1];
    const word c = ((const word *)s)[2], e = ((const word *)s)[3];
    ((word *)d)[0] = a;
    ((word *)d)[1] = b;
    ((word *)d)[2] = c;
    ((word *)d)[3] = e;
  }
  for (; size >= 4; size -= 4, d += 4, s += 4) *(word *)d = *(const word *)s;
  while (size--) *d++ = *s++;
}

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
  copy_upwards(to, from, size);
  return to;
}

void *memmove(void *to, const void *from, size_t size) {
  unsigned char *d = to;
  const unsigned char *s = from;
  if ((uintptr_t)d - (uintptr_t)s >= size)
    copy_upwards(d, s, size);
  else
    while (size--) d[size] = s[size];
  return to;
}

void *memset(void *to, int value, size_t size) {
  unsigned char *d = to;
  const uint32_t four = (uint32_t)(unsigned char)value * 0x01010101u;
  for (; size >= 16; size -= 16, d += 16) {
    ((word *)d)[0] = four;
    ((word *)d)[1] = four;
    ((word *)d)[2] = four;
    ((word *)d)[3] = four;
  }
  while (size--) *d++ = (unsigned char)value;
  return to;
}

void __aeabi_memcpy(void *restrict to, const void *restrict from, size_t size) {
  (void)memcpy(to, from, size);
}
void __aeabi_memmove(void *to, const void *from, size_t size) { (void)memmove(to, from, size); }
void __aeabi_memset(void *to, size_t size, int value) { (void)memset(to, value, size); }
void __aeabi_memclr(void *to, size_t size) { (void)memset(to, 0, size); }

#define ALIAS(name, target) __attribute__((alias(#target))) __typeof__(target) name
ALIAS(__aeabi_memcpy4, __aeabi_memcpy);
ALIAS(__aeabi_memcpy8, __aeabi_memcpy);
ALIAS(__aeabi_memmove4, __aeabi_memmove);
ALIAS(__aeabi_memmove8, __aeabi_memmove);
ALIAS(__aeabi_memset4, __aeabi_memset);
ALIAS(__aeabi_memset8, __aeabi_memset);
ALIAS(__aeabi_memclr4, __aeabi_memclr);
ALIAS(__aeabi_memclr8, __aeabi_memclr);
