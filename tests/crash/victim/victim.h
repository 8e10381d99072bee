/* What the victim's files share. */
#ifndef VICTIM_H
#define VICTIM_H

#define _GNU_SOURCE
#include <ondat_telemetry.h>

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* One way to end. */
struct scenario {
    const char *name;
    /* Called before anything is installed; may be NULL. */
    void (*before)(void);
    /* Called when the test lets go. */
    void (*run)(void);
};

/* Each file's own, ended by a NULL name. */
extern const struct scenario faults[], stacks[], heaps[], locks[], threads[], endings[], handlers[], hosts[], children[],
    plugins[], lives[], limits[], clocks[], evidence[], surroundings[], attribution[];

/* The client, NULL without the library. */
extern ondat_telemetry *telemetry;

/* What main returns where a scenario does. */
extern int returned;

/* What the scenario "plugin" calls. */
extern void (*plugin)(void);

/* A client with the settings of the environment. */
ondat_telemetry_status make_client(ondat_telemetry **client, char *errbuf, size_t length);

/* A client that has installed the crash handler, if no other has. */
ondat_telemetry *try_install(void);

/* Makes the client, installs its crash handler, and prints what came of it. */
void install(void);

/* Writes to an address that is not mapped. */
void segv(void);

/* Runs a function on a thread of its own and waits for it. */
void run_thread(void *(*body)(void *), void *argument);

#endif
