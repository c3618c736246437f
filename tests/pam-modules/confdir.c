/*
 * Preloaded into a test build of the PAM worker: libpam reads its service files from the directory
 * PAM_WRAPPER_SERVICE_DIR, and from nowhere else, so that the tests need no root.
 *
 *   cc -shared -fPIC -o confdir.so confdir.c -lpam
 *
 * In place of libpam_wrapper.so, whose start is a race between processes: each takes the first free
 * name below /tmp, and one that loses it does not start. Everything else is the system's real libpam.
 */
#include <stdlib.h>

#include <security/pam_appl.h>

int pam_start(const char *service, const char *user, const struct pam_conv *conversation, pam_handle_t **handle)
{
    const char *directory = getenv("PAM_WRAPPER_SERVICE_DIR");
    if (directory == NULL)
        return PAM_SYSTEM_ERR;
    return pam_start_confdir(service, user, conversation, directory, handle);
}
