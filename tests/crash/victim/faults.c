/* Faults of an instruction, and signals that say the same. */
#include "victim.h"

#include <assert.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>

static void *segv_on_thread(void *unused)
{
    (void)unused;
    segv();
    return NULL;
}

static void segv_thread(void)
{
    run_thread(segv_on_thread, NULL);
}

static void *block_all_and_segv(void *unused)
{
    sigset_t all;

    (void)unused;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    segv();
    return NULL;
}

static void segv_blocked(void)
{
    run_thread(block_all_and_segv, NULL);
}

static void bus(void)
{
    FILE *file = tmpfile();
    volatile char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);

    page[0] = 1;
}

static void fpe(void)
{
    volatile int zero = 0;

    printf("%d\n", 12345 / zero);
}

static void ill(void)
{
#if defined(__x86_64__)
    __asm__ volatile("ud2");
#else
    __asm__ volatile("udf #0");
#endif
}

static void trap(void)
{
#if defined(__x86_64__)
    __asm__ volatile("int3");
#else
    __asm__ volatile("brk #0");
#endif
}

static void call(const void *address)
{
    ((void (*)(void))(uintptr_t)address)();
}

static void jump_to_unmapped(void)
{
    call((void *)0x10);
}

static void general_protection(void)
{
    /* Neither the lower nor the upper half of the address space. */
    *(volatile char *)(uintptr_t)0x8000000000000000 = 1;
}

static void write_readonly(void)
{
    volatile char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    page[0] = 1;
}

static void run_data(void)
{
    call(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
}

static void memory_error(void)
{
    siginfo_t info;

    /* As the kernel says it of a page that the hardware has lost. */
    memset(&info, 0, sizeof info);
    info.si_signo = SIGBUS;
    info.si_code = BUS_MCEERR_AR;
    syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGBUS, &info);
}

static void seccomp_trap(void)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof filter / sizeof *filter, filter };

    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
    getppid();
}

static void failed_assert(void)
{
    volatile int one = 1;

    assert(one == 2);
}

static void __attribute__((noinline, optimize("stack-protector-all"))) smash_stack(void)
{
    char small[8];
    volatile char *byte = small;

    for (int i = 0; i < 64; i++)
        byte[i] = 'x';
}

extern void *__memcpy_chk(void *to, const void *from, size_t length, size_t room);

static void fortify(void)
{
    char small[4];

    __memcpy_chk(small, "longer than that", 16, sizeof small);
}

static void raise_segv(void)
{
    raise(SIGSEGV);
}

static void kill_sys(void)
{
    kill(getpid(), SIGSYS);
}

static void xcpu(void)
{
    raise(SIGXCPU);
}

static void xfsz(void)
{
    raise(SIGXFSZ);
}

/* A cause of death in a thread that has blocked all signals. */
struct cause {
    void (*run)(void);
};

static void *block_all_and_run(void *cause)
{
    sigset_t all;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL);
    ((struct cause *)cause)->run();
    return NULL;
}

static void run_blocked(void (*run)(void))
{
    struct cause cause = { run };

    run_thread(block_all_and_run, &cause);
}

static void kill_xcpu(void)
{
    kill(getpid(), SIGXCPU);
}

static void kill_xfsz(void)
{
    kill(getpid(), SIGXFSZ);
}

static void bus_blocked(void)
{
    run_blocked(bus);
}

static void fpe_blocked(void)
{
    run_blocked(fpe);
}

static void ill_blocked(void)
{
    run_blocked(ill);
}

static void trap_blocked(void)
{
    run_blocked(trap);
}

static void abort_blocked(void)
{
    run_blocked(abort);
}

static void seccomp_blocked(void)
{
    run_blocked(seccomp_trap);
}

static void xcpu_blocked(void)
{
    run_blocked(kill_xcpu);
}

static void xfsz_blocked(void)
{
    run_blocked(kill_xfsz);
}

#if defined(__x86_64__)

/* Nothing can be pushed there, by the program or by the kernel. */
#define BAD_STACK "mov $16, %%rsp\n\t"

static void segv_bad_stack(void)
{
    __asm__ volatile(BAD_STACK "movb $1, 0" ::: "memory");
}

static void *segv_bad_stack_body(void *unused)
{
    (void)unused;
    segv_bad_stack();
    return NULL;
}

static void segv_bad_stack_thread(void)
{
    run_thread(segv_bad_stack_body, NULL);
}

static void bus_bad_stack(void)
{
    FILE *file = tmpfile();
    char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);

    __asm__ volatile(BAD_STACK "movb $1, (%0)" ::"r"(page) : "memory");
}

static void fpe_bad_stack(void)
{
    __asm__ volatile(BAD_STACK "div %2" ::"a"(1), "d"(0), "r"(0) : "memory");
}

static void *fpe_bad_stack_body(void *has_init)
{
    if (has_init != NULL)
        ondat_telemetry_thread_init();
    fpe_bad_stack();
    return NULL;
}

static void fpe_bad_stack_thread(void)
{
    run_thread(fpe_bad_stack_body, NULL);
}

static void fpe_bad_stack_thread_init(void)
{
    run_thread(fpe_bad_stack_body, "");
}

static void ill_bad_stack(void)
{
    __asm__ volatile(BAD_STACK "ud2" ::: "memory");
}

static void trap_bad_stack(void)
{
    /* The stack pointer stays as it is after the trap: the next instruction must not need it either. */
    __asm__ volatile(BAD_STACK "int3\n1: jmp 1b" ::: "memory");
}

static void raise_bad_stack(int signal_number)
{
    __asm__ volatile(BAD_STACK "syscall\n1: jmp 1b" ::"a"(SYS_tgkill), "D"(getpid()), "S"(syscall(SYS_gettid)),
                     "d"(signal_number)
                     : "rcx", "r11", "memory");
}

static void abrt_bad_stack(void)
{
    raise_bad_stack(SIGABRT);
}

static void sys_bad_stack(void)
{
    raise_bad_stack(SIGSYS);
}

static void xcpu_bad_stack(void)
{
    raise_bad_stack(SIGXCPU);
}

static void xfsz_bad_stack(void)
{
    raise_bad_stack(SIGXFSZ);
}

#endif

const struct scenario faults[] = {
    { "segv", NULL, segv },
    { "segv_thread", NULL, segv_thread },
    { "segv_blocked", NULL, segv_blocked },
    { "bus", NULL, bus },
    { "fpe", NULL, fpe },
    { "ill", NULL, ill },
    { "trap", NULL, trap },
    { "abort", NULL, abort },
    { "raise_segv", NULL, raise_segv },
    { "kill_sys", NULL, kill_sys },
    { "xcpu", NULL, xcpu },
    { "xfsz", NULL, xfsz },
    { "jump_to_unmapped", NULL, jump_to_unmapped },
    { "general_protection", NULL, general_protection },
    { "write_readonly", NULL, write_readonly },
    { "run_data", NULL, run_data },
    { "memory_error", NULL, memory_error },
    { "seccomp_trap", NULL, seccomp_trap },
    { "failed_assert", NULL, failed_assert },
    { "smash_stack", NULL, smash_stack },
    { "fortify", NULL, fortify },
    { "bus_blocked", NULL, bus_blocked },
    { "fpe_blocked", NULL, fpe_blocked },
    { "ill_blocked", NULL, ill_blocked },
    { "trap_blocked", NULL, trap_blocked },
    { "abort_blocked", NULL, abort_blocked },
    { "seccomp_blocked", NULL, seccomp_blocked },
    { "xcpu_blocked", NULL, xcpu_blocked },
    { "xfsz_blocked", NULL, xfsz_blocked },
#if defined(__x86_64__)
    { "segv_bad_stack", NULL, segv_bad_stack },
    { "segv_bad_stack_thread", NULL, segv_bad_stack_thread },
    { "bus_bad_stack", NULL, bus_bad_stack },
    { "fpe_bad_stack", NULL, fpe_bad_stack },
    { "fpe_bad_stack_thread", NULL, fpe_bad_stack_thread },
    { "fpe_bad_stack_thread_init", NULL, fpe_bad_stack_thread_init },
    { "ill_bad_stack", NULL, ill_bad_stack },
    { "trap_bad_stack", NULL, trap_bad_stack },
    { "abrt_bad_stack", NULL, abrt_bad_stack },
    { "sys_bad_stack", NULL, sys_bad_stack },
    { "xcpu_bad_stack", NULL, xcpu_bad_stack },
    { "xfsz_bad_stack", NULL, xfsz_bad_stack },
#endif
    { NULL, NULL, NULL },
};
