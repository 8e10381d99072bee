/*
 * A server that takes a request and never answers. Turning the switch off must interrupt the request, and so must
 * close; with the library's own timeout of ten minutes, a library that waits fails the test's deadline.
 */
#include <ondat_telemetry.h>

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int listener;

/* Returns once the library's request is here and waits for its answer. */
static int take_request(void)
{
    char bytes[4096] = "";
    size_t length = 0;
    int client = accept(listener, NULL, NULL);

    while (strstr(bytes, "\"event_id\"") == NULL) {
        ssize_t more = read(client, bytes + length, sizeof bytes - 1 - length);

        if (more <= 0)
            return -1;
        length += (size_t)more;
    }
    return client;
}

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    char errbuf[512] = "", dsn[128], byte;
    int client;
    ondat_telemetry *telemetry = NULL;
    ondat_telemetry_config *config = ondat_telemetry_config_new();

    listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 8) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0)
        return 1;
    snprintf(dsn, sizeof dsn, "http://key@127.0.0.1:%d/1", ntohs(address.sin_port));
    ondat_telemetry_config_set_component(config, "test");
    ondat_telemetry_config_set_version(config, "1.2.3");
    ondat_telemetry_config_set_cluster_id(config, "c");
    ondat_telemetry_config_set_node_id(config, "n");
    ondat_telemetry_config_set_sentry_dsn(config, dsn);
    ondat_telemetry_config_set_timeout_ms(config, 600000);
    if (ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK ||
        ondat_telemetry_start(telemetry, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK ||
        ondat_telemetry_report_exit(telemetry, "child", 256, NULL, errbuf, sizeof errbuf) != ONDAT_TELEMETRY_OK) {
        printf("%s\n", errbuf);
        return 1;
    }
    ondat_telemetry_config_free(config);
    client = take_request();
    printf("request %d\n", client >= 0);
    ondat_telemetry_set_switches(telemetry, ONDAT_TELEMETRY_VERSION_CHECK, NULL, 0);
    printf("interrupted %d\n", read(client, &byte, 1) <= 0);
    printf("off %d\n", (int)ondat_telemetry_report_exit(telemetry, "child", 256, NULL, errbuf, sizeof errbuf));

    ondat_telemetry_set_switches(telemetry, ONDAT_TELEMETRY_CRASH_REPORTS, NULL, 0);
    printf("stored while off %d\n", (int)ondat_telemetry_flush(telemetry, 1000, errbuf, sizeof errbuf));
    printf("on %d\n", (int)ondat_telemetry_report_exit(telemetry, "child", 256, NULL, errbuf, sizeof errbuf));
    client = take_request();
    printf("request %d\n", client >= 0);
    ondat_telemetry_close(telemetry, 0);
    printf("closed\n");
    return 0;
}
