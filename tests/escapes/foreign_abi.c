/* Calls the kernel by the 32-bit and the x32 entry, where a filter written for x86-64 numbers sees other calls.
 * CHEATS 33. */
#include "attempt.h"

#ifdef __x86_64__
static int getpid_32(const char *_) {
    (void)_;
    long pid;
    __asm__ volatile("int $0x80" : "=a"(pid) : "a"(20L) : "r8", "r9", "r10", "r11", "memory");
    return pid == getpid() ? 0 : pid < 0 && pid > -133 ? (int)-pid : EIO;
}
/* 32-bit 359 is socket: on x86-64 that number means nothing a filter would look for. */
static int socket_32(const char *_) {
    (void)_;
    long fd;
    __asm__ volatile("int $0x80" : "=a"(fd) : "a"(359L), "b"(2L), "c"(1L), "d"(0L) : "r8", "r9", "r10", "r11", "memory");
    return fd >= 0 ? 0 : (int)-fd;
}
static int getpid_x32(const char *_) { (void)_; return TRIED(syscall(0x40000000 | SYS_getpid)); }
#endif

int main(void) {
#ifdef __x86_64__
    attempt("int80-getpid", getpid_32, 0);
    attempt("int80-socket", socket_32, 0);
    attempt("x32-getpid", getpid_x32, 0);
#endif
}
