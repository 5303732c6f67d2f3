/* Burns CPU for ever without a system call. CHEATS 30. */
int main(void) {
    for (volatile unsigned long turns = 0;; turns++) {
    }
}
