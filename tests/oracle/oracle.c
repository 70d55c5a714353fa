/*
 * What libxenguest, the code behind `xl create`, says of kernels. Needs no Xen: XC_OPENFLAG_DUMMY opens nothing.
 *
 * Reads file names from stdin, one a line; answers each with one line on stdout:
 *     MODE <TAB> GUEST_TYPE or "-" <TAB> LOADER or "-" <TAB> first error, or empty
 * once for MODE "pv" and once for "pvh". Each judgement is made in a child of its own, so that a crash of the
 * library is an answer ("crash") and not an end.
 *
 * cc -Wall -O1 oracle.c -o oracle -lxenguest -lxenctrl -lxentoollog
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <xenctrl.h>
#include <xenguest.h>
#include <xentoollog.h>

/* What a host with every guest type says; 4.17's Debian build has no PV32, which is the host's matter, not the kernel's. */
static const char caps[] =
    "xen-3.0-x86_64 xen-3.0-x86_32p hvm-3.0-x86_32 hvm-3.0-x86_32p hvm-3.0-x86_64 ";

struct words {
    xentoollog_logger vtable;
    char loader[64];
    char error[512];
};

static void take(xentoollog_logger *logger, xentoollog_level level, int errnoval, const char *context,
                 const char *format, va_list al)
{
    struct words *words = (struct words *)logger;
    char line[512];
    char *start, *end;

    (void)errnoval;
    (void)context;
    vsnprintf(line, sizeof line, format, al);
    for (char *c = line; *c; c++)
        if (*c == '\t' || *c == '\n' || (unsigned char)*c < ' ' || (unsigned char)*c > '~')
            *c = ' ';
    start = strstr(line, "trying ");
    end = start ? strstr(start, " loader") : NULL;
    if (start && end) {
        *end = '\0';
        snprintf(words->loader, sizeof words->loader, "%s", start + strlen("trying "));
    }
    if (level >= XTL_ERROR && !words->error[0])
        snprintf(words->error, sizeof words->error, "%s", line);
}

static void say(xentoollog_logger *logger, const char *context, const char *doing, int percent,
                unsigned long done, unsigned long total)
{
    (void)logger; (void)context; (void)doing; (void)percent; (void)done; (void)total;
}

static void drop(xentoollog_logger *logger) { (void)logger; }

static void judge(const char *path, bool pvh)
{
    struct words words = { .vtable = { .vmessage = take, .progress = say, .destroy = drop } };
    struct rlimit seconds = { 30, 30 }, space = { 3ul << 30, 3ul << 30 };
    xc_interface *xch;
    struct xc_dom_image *dom;
    int bad;

    setrlimit(RLIMIT_CPU, &seconds);
    setrlimit(RLIMIT_AS, &space);
    xch = xc_interface_open(&words.vtable, &words.vtable, XC_OPENFLAG_DUMMY);
    dom = xch ? xc_dom_allocate(xch, "", NULL) : NULL;
    if (!dom)
        exit(3);
    dom->container_type = pvh ? XC_DOM_HVM_CONTAINER : XC_DOM_PV_CONTAINER;
    snprintf(dom->xen_caps, sizeof dom->xen_caps, "%s", caps);
    bad = xc_dom_kernel_file(dom, path) || xc_dom_parse_image(dom);
    printf("%s\t%s\t%s\t%s\n", pvh ? "pvh" : "pv", bad || !dom->guest_type ? "-" : dom->guest_type,
           bad || !words.loader[0] ? "-" : words.loader, bad ? words.error : "");
    fflush(stdout);
    _exit(0);
}

int main(void)
{
    char *path = NULL;
    size_t room = 0;
    ssize_t length;

    while ((length = getline(&path, &room, stdin)) > 0) {
        if (path[length - 1] == '\n')
            path[length - 1] = '\0';
        for (int pvh = 0; pvh < 2; pvh++) {
            int status = 0;
            pid_t child;

            fflush(stdout);
            child = fork();
            if (child < 0)
                return 2;
            if (child == 0)
                judge(path, pvh);
            waitpid(child, &status, 0);
            if (!WIFEXITED(status) || WEXITSTATUS(status))
                printf("%s\t-\t-\tcrash: status %d\n", pvh ? "pvh" : "pv", status);
        }
        fflush(stdout);
    }
    free(path);
    return 0;
}
