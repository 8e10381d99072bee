/*
 * Documents of 1 GiB: what is wrong in one is refused with the place, and none takes memory by its size or its form.
 *
 *   large_documents STATE_DIR
 *
 * A document's middle is one block of a file, mapped over and over, so that the document itself takes no memory; what
 * the library takes is bounded by RLIMIT_DATA, above which it would be ended.
 */
#define _GNU_SOURCE
#include <ondat_telemetry.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define BLOCK ((size_t)2 << 20)
#define BLOCKS ((size_t)512)
/* Two row groups in the making, the parser and the sealing; a document that was held in memory would be far above. */
#define ALLOWED_BYTES ((rlim_t)48 << 20)

/* A public key (the one of RFC 9180's vectors) that is valid for long. */
static const char report_keys[] =
    "{\"keys\":[{\"id\":\"69df8d73e7407153\",\"kem\":\"X25519\",\"public\":"
    "\"Qw9LmFlmUUWmsbonQCRIe9ZvA6LdV313U8aNfX0AwAw=\",\"not_before\":0,\"not_after\":9999999999}]}";

static int failures;

static void expect(const char *what, int32_t status, int32_t expected, const char *errbuf, const char *text)
{
    if (status != expected || strstr(errbuf, text) == NULL) {
        printf("%s: status %d (%s), expected %d; errbuf \"%s\", expected \"%s\"\n", what, (int)status,
               ondat_telemetry_strerror(status), (int)expected, errbuf, text);
        failures++;
    }
}

static void *must(void *mapping)
{
    if (mapping == MAP_FAILED) {
        perror("large_documents");
        exit(2);
    }
    return mapping;
}

/* `begin`, then `middle` again and again, then `end`, 1 GiB in all; blanks before it, so that each middle is whole. */
static char *document(const char *begin, const char *middle, const char *end)
{
    int file = memfd_create("document", 0);
    char *place = (char *)must(mmap(NULL, BLOCKS * BLOCK, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    char *blocks;
    size_t length = strlen(middle), blanks = (length - strlen(begin) % length) % length;

    if (file < 0 || ftruncate(file, (off_t)(3 * BLOCK)) != 0) {
        perror("large_documents");
        exit(2);
    }
    blocks = (char *)must(mmap(NULL, 3 * BLOCK, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0));
    for (size_t at = 0; at < 3 * BLOCK; at++)
        blocks[at] = middle[at % BLOCK % length];
    memset(blocks, ' ', blanks);
    memcpy(blocks + blanks, begin, strlen(begin));
    memcpy(blocks + 3 * BLOCK - strlen(end), end, strlen(end));
    munmap(blocks, 3 * BLOCK);
    for (size_t block = 0; block < BLOCKS; block++) {
        size_t offset = block == 0 ? 0 : block == BLOCKS - 1 ? 2 * BLOCK : BLOCK;

        must(mmap(place + block * BLOCK, BLOCK, PROT_READ, MAP_SHARED | MAP_FIXED, file, (off_t)offset));
    }
    close(file);
    return place;
}

/* A middle with one record in each block, far from where a document begins and ends. */
static char *spacious(const char *record)
{
    static char middle[BLOCK + 1];

    memset(middle, ' ', BLOCK);
    memcpy(middle + BLOCK / 2, record, strlen(record));
    return middle;
}

static void on_text(const char *text, size_t len, void *userdata)
{
    (void)text;
    *(size_t *)userdata = len;
}

static void previews(ondat_telemetry *telemetry)
{
    static const struct {
        const char *begin, *middle, *end, *text;
    } wrong[] = {
        {"{\"k8s_version\":\"", "xxxxxxxx", "\"}", "a string of more than 1048576 bytes at line 1 column 16"},
        {"{\"k8s_version\":\"", "\\n\\n\\n\\n", "\"}", "a string of more than 1048576 bytes at line 1 column 16"},
        {"{\"", "xxxxxxxx", "\":1}", "a string of more than 1048576 bytes at line 1 column 8"},
        {"{\"nodes\":[", "[[[[[[[[", "]]}", "recursion limit exceeded at line 1 column 143"},
        {"{\"k8s_version\":", "[[[[[[[[", "]]}", "recursion limit exceeded at line 1 column 144"},
        {"{\"k8s_version\":[0", ",0,0,0,0", "]}", "larger than any can be at line 1 column"},
        {"{\"nodes\":[{\"node_labels\":[0", ",0,0,0,0", "]}]}", "larger than any can be at line 1 column"},
        {"{\"k8s_version\":1", ",       ", "}", "line 1 column 25"},
    };
    char errbuf[512];
    size_t length = 0;

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char *json = document(wrong[i].begin, wrong[i].middle, wrong[i].end);

        expect(wrong[i].text, ondat_telemetry_preview_report(telemetry, json, BLOCKS * BLOCK, on_text, &length, errbuf, sizeof errbuf),
               ONDAT_TELEMETRY_INVALID_REPORT, errbuf, wrong[i].text);
        expect("longer", ondat_telemetry_preview_report(telemetry, json, BLOCKS * BLOCK + 1, on_text, &length, errbuf, sizeof errbuf),
               ONDAT_TELEMETRY_INVALID_REPORT, errbuf, "1073741825 bytes of JSON");
        munmap(json, BLOCKS * BLOCK);
    }
    if (length != 0) {
        printf("something wrong was previewed\n");
        failures++;
    }
}

/* Records to the end: the last one is wrong, and then is not. */
static void reports(ondat_telemetry *telemetry)
{
    char errbuf[512];
    char *json;
    const char *record = "{\"volume_id\":\"a\",\"volume_labels\":{\"b\":\"c\"},\"volume_size_bytes\":1},";

    json = document("{\"volumes\":[", spacious(record), "{\"volume_replicas\":6}]}");
    expect("wrong at the end", ondat_telemetry_submit_report(telemetry, json, BLOCKS * BLOCK, 60000, errbuf, sizeof errbuf),
           ONDAT_TELEMETRY_INVALID_REPORT, errbuf, "volumes[511].volume_replicas: expected an integer from 0 to 5");
    munmap(json, BLOCKS * BLOCK);

    /* Nobody listens there. */
    json = document("{\"volumes\":[", spacious(record), "{\"volume_replicas\":5}]}");
    expect("right to the end", ondat_telemetry_submit_report(telemetry, json, BLOCKS * BLOCK, 1, errbuf, sizeof errbuf),
           ONDAT_TELEMETRY_QUEUED, errbuf, "stored");
    munmap(json, BLOCKS * BLOCK);
}

int main(int argc, char **argv)
{
    char errbuf[512];
    struct rlimit limit;
    ondat_telemetry *telemetry = NULL;
    ondat_telemetry_config *config = ondat_telemetry_config_new();

    if (argc < 2)
        return 2;
    ondat_telemetry_config_set_component(config, "test");
    ondat_telemetry_config_set_version(config, "1.2.3");
    ondat_telemetry_config_set_cluster_id(config, "c");
    ondat_telemetry_config_set_node_id(config, "n");
    ondat_telemetry_config_set_state_dir(config, argv[1]);
    ondat_telemetry_config_set_report_url(config, "http://127.0.0.1:1");
    ondat_telemetry_config_set_report_keys(config, report_keys);
    expect("init", ondat_telemetry_init(config, &telemetry, errbuf, sizeof errbuf), ONDAT_TELEMETRY_OK, errbuf, "");
    ondat_telemetry_config_free(config);
    if (telemetry == NULL)
        return 1;
    limit.rlim_cur = limit.rlim_max = ALLOWED_BYTES;
    if (setrlimit(RLIMIT_DATA, &limit) != 0) {
        perror("large_documents");
        return 2;
    }
    previews(telemetry);
    reports(telemetry);
    ondat_telemetry_close(telemetry, 0);
    printf("%d failures\n", failures);
    return failures != 0;
}
