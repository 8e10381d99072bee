//go:build linux && cgo && victim_late

/* The library opened late: nothing of it is there before the Go runtime has installed its signal handlers. */
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>

static void *library, *telemetry;
static char why[512];

const char *late_install(const char *path, unsigned flags, int *output);
void late_close(void);

const char *late_install(const char *path, unsigned flags, int *output)
{
    void *(*new)(void);
    void (*set[4])(void *, const char *), (*load_env)(void *), (*release)(void *);
    int (*init)(void *, void **, char *, size_t), (*install)(void *, uint32_t, char *, size_t);
    int (*crash_output)(void *, int *, char *, size_t), (*start)(void *, char *, size_t);
    static const char *const names[] = {"component", "version", "cluster_id", "node_id"};
    static const char *const values[] = {"victim", "1.2.3", "cluster-1", "node-1"};
    static const char *const setters[] = {
        "ondat_telemetry_config_set_component", "ondat_telemetry_config_set_version",
        "ondat_telemetry_config_set_cluster_id", "ondat_telemetry_config_set_node_id"};
    void *config;

    library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL)
        return dlerror();
    *(void **)&new = dlsym(library, "ondat_telemetry_config_new");
    *(void **)&load_env = dlsym(library, "ondat_telemetry_config_load_env");
    *(void **)&release = dlsym(library, "ondat_telemetry_config_free");
    *(void **)&init = dlsym(library, "ondat_telemetry_init");
    *(void **)&install = dlsym(library, "ondat_telemetry_install_crash_handler");
    *(void **)&crash_output = dlsym(library, "ondat_telemetry_crash_output");
    *(void **)&start = dlsym(library, "ondat_telemetry_start");
    if (new == NULL || load_env == NULL || release == NULL || init == NULL || install == NULL || crash_output == NULL ||
        start == NULL)
        return "a function is missing";
    config = new();
    for (int at = 0; at < 4; at++) {
        *(void **)&set[at] = dlsym(library, setters[at]);
        if (set[at] == NULL)
            return names[at];
        set[at](config, values[at]);
    }
    load_env(config);
    if (init(config, &telemetry, why, sizeof why) != 0 || install(telemetry, flags, why, sizeof why) != 0 ||
        crash_output(telemetry, output, why, sizeof why) != 0 || start(telemetry, why, sizeof why) != 0)
        return why;
    release(config);
    return NULL;
}

void late_close(void)
{
    void (*close)(void *, uint32_t);

    *(void **)&close = dlsym(library, "ondat_telemetry_close");
    close(telemetry, 0);
    dlclose(library);
}
