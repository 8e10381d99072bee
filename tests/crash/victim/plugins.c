/* Deaths in other languages than C. */
#include "victim.h"

#include <dlfcn.h>

void (*plugin)(void);

/* A program in another language that contains the victim has set it. */
static void load_plugin(void)
{
    void *object, *symbol;

    if (plugin != NULL)
        return;
    object = dlopen(getenv("PLUGIN"), RTLD_NOW);
    symbol = object == NULL ? NULL : dlsym(object, getenv("PLUGIN_RUN"));
    if (symbol == NULL) {
        fprintf(stderr, "plugin: %s\n", dlerror());
        exit(95);
    }
    memcpy(&plugin, &symbol, sizeof plugin);
}

static void run_plugin(void)
{
    plugin();
}

const struct scenario plugins[] = {
    { "plugin", load_plugin, run_plugin },
    { NULL, NULL, NULL },
};
