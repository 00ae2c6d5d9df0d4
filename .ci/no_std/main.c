int consilience_no_std_check(void);

int main(void) {
    return consilience_no_std_check();
}
