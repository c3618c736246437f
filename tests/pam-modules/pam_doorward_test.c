/*
 * pam_doorward_test: a PAM module that behaves well or badly on demand. For tests only.
 *
 *   cc -shared -fPIC -Wall -Wextra -o pam_doorward_test.so pam_doorward_test.c -lpam
 *
 * A line of a service file names it by full path, in any of the groups auth, account, password and
 * session:   auth required /dir/pam_doorward_test.so password=x code
 *
 * Arguments (text with blanks: put the whole argument in [brackets], as in pam.conf(5)):
 *
 *   for_user=NAME     for any other user this line answers PAM_IGNORE and does nothing. So one service
 *                     file can hang for one user and work for the next.
 *   in=account        do what the arguments marked (*) say in account management, not in authentication.
 *
 * Questions, in authentication, in this order:
 *   info  info=TEXT   a PAM_TEXT_INFO message in a call of its own (default "Test service.")
 *   error=TEXT        a PAM_ERROR_MSG message in a call of its own
 *   items             a PAM_TEXT_INFO message "service=S user=U rhost=R tty=T"
 *   password=X        asks "Password: " (hidden); anything but X is PAM_AUTH_ERR. X is kept as PAM_AUTHTOK.
 *   expire=FILE       see below: once FILE holds a password, that one counts in place of X.
 *   together=TEXT     a PAM_TEXT_INFO message in the same call as the password question
 *   two_questions     asks "Password: " (hidden) and "Favourite colour: " (visible) in ONE call;
 *   colour=X          the colour that is right (default blue)
 *   code  code=X      after the password asks "One-time code: " (visible) (default 123456)
 *   flood=N           one call with N questions "Question I: " (visible), whose answers must be "I"
 *   rounds=N          N calls with one question each, the same questions
 *   text_bytes=N      questions and texts of flood and rounds are padded with 'x' to N bytes
 *
 * Outcome:
 *   auth=N account=N change=N   authentication / account management / password change ends with the PAM
 *                     code N, if nothing went wrong before
 *   change_user=NAME  (*) sets PAM_USER to NAME, then goes on
 *   delay=N           asks for a fail delay of N microseconds (pam_fail_delay), then PAM_AUTH_ERR
 *   expire=FILE       account management answers PAM_NEW_AUTHTOK_REQD until FILE holds a password. A
 *                     password change asks "New password: " and "Retype new password: " (hidden, two
 *                     calls), writes FILE (mode 0600). Not the same twice, empty, or the password=X of
 *                     its own line: a PAM_ERROR_MSG and PAM_AUTHTOK_ERR.
 *   try_again         a password change answers PAM_TRY_AGAIN in its preliminary check, always
 *
 * Bad behaviour (*), after the questions:
 *   hold=FIFO         opens FIFO for writing (not close-on-exec, never closed) and writes "PID worker\n":
 *                     a reader that opened it before sees end of file when the last process that came
 *                     out of this conversation is gone. With orphan, also "PID orphan\n".
 *   orphan            leaves a double-forked child in a session of its own that ignores every signal it can
 *   daemon            the same (for use without hang: the login succeeds, the child stays)
 *   hang              blocks and ignores every signal and sleeps for ever
 *   spin              the same, but burns CPU time
 *   setsid            becomes leader of a new process group before it hangs
 *   crash             SIGSEGV
 *   exit=N            calls _exit(N)
 *   stdout            writes to descriptors 0, 1 and 2
 *   fork              forks a child that exits with 7 and waits for it: PAM_SYSTEM_ERR when it cannot
 *                     see that, as happens where SIGCHLD is ignored
 *   check_environment PAM_SYSTEM_ERR and a PAM_ERROR_MSG that says what, unless: the environment is empty
 *                     (libpam-wrapper's variables apart), descriptors above 2 are close-on-exec, the
 *                     umask is 077, core dumps are off, and a program started here has no ignored or
 *                     blocked signal (but those that the C library keeps) and no descriptor above 2.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

#include <security/pam_appl.h>
#include <security/pam_modules.h>

#ifndef PAM_EXTERN
#define PAM_EXTERN
#endif

enum { MAX_QUESTIONS = 64, MAX_TEXT = 4096 };

extern char **environ;

/* The text after "name=", "" for a bare "name", NULL when it is not there. */
static const char *argument(int argc, const char **argv, const char *name)
{
    size_t length = strlen(name);
    for (int i = 0; i < argc; i++) {
        if (strncmp(argv[i], name, length) != 0)
            continue;
        if (argv[i][length] == '=')
            return argv[i] + length + 1;
        if (argv[i][length] == '\0')
            return argv[i] + length;
    }
    return NULL;
}

static const char *or_default(const char *text, const char *otherwise)
{
    return text != NULL && *text != '\0' ? text : otherwise;
}

static const char *item(pam_handle_t *pamh, int type)
{
    const void *value = NULL;
    if (pam_get_item(pamh, type, &value) != PAM_SUCCESS || value == NULL)
        return "";
    return value;
}

static int concerns(pam_handle_t *pamh, int argc, const char **argv)
{
    const char *name = argument(argc, argv, "for_user");
    return name == NULL || strcmp(name, item(pamh, PAM_USER)) == 0;
}

/* One call of the conversation function. Answers, where there are any, belong to the caller. */
static int converse(pam_handle_t *pamh, int count, const int *styles, char texts[][MAX_TEXT], char **answers)
{
    struct pam_message messages[MAX_QUESTIONS];
    const struct pam_message *pointers[MAX_QUESTIONS];
    struct pam_response *responses = NULL;
    const void *value = NULL;

    if (count > MAX_QUESTIONS)
        return PAM_SYSTEM_ERR;
    int rc = pam_get_item(pamh, PAM_CONV, &value);
    if (rc != PAM_SUCCESS || value == NULL)
        return PAM_CONV_ERR;
    const struct pam_conv *conv = value;
    for (int i = 0; i < count; i++) {
        messages[i].msg_style = styles[i];
        messages[i].msg = texts[i];
        pointers[i] = &messages[i];
        answers[i] = NULL;
    }
    rc = conv->conv(count, pointers, &responses, conv->appdata_ptr);
    if (rc != PAM_SUCCESS)
        return rc;
    if (responses == NULL)
        return PAM_CONV_ERR;
    for (int i = 0; i < count; i++)
        answers[i] = responses[i].resp;
    free(responses);
    return PAM_SUCCESS;
}

static void drop_answer(char *answer)
{
    if (answer == NULL)
        return;
    for (volatile char *p = answer; *p != '\0'; p++)
        *p = '\0';
    free(answer);
}

static int say(pam_handle_t *pamh, int style, const char *text)
{
    char texts[1][MAX_TEXT];
    char *answers[1];
    snprintf(texts[0], MAX_TEXT, "%s", text);
    int rc = converse(pamh, 1, &style, texts, answers);
    if (rc == PAM_SUCCESS)
        drop_answer(answers[0]);
    return rc;
}

/* Asks one thing; *answer is the caller's to drop. */
static int ask(pam_handle_t *pamh, int style, const char *text, char **answer)
{
    char texts[1][MAX_TEXT];
    snprintf(texts[0], MAX_TEXT, "%s", text);
    int rc = converse(pamh, 1, &style, texts, answer);
    if (rc == PAM_SUCCESS && *answer == NULL)
        return PAM_CONV_ERR;
    return rc;
}

static int expect(pam_handle_t *pamh, int style, const char *text, const char *right)
{
    char *answer = NULL;
    int rc = ask(pamh, style, text, &answer);
    if (rc != PAM_SUCCESS)
        return rc;
    rc = strcmp(answer, right) == 0 ? PAM_SUCCESS : PAM_AUTH_ERR;
    drop_answer(answer);
    return rc;
}

/* The password in FILE, if it holds one: 1; 0 otherwise. */
static int changed_password(const char *file, char *password, size_t size)
{
    FILE *stream = file != NULL && *file != '\0' ? fopen(file, "re") : NULL;
    if (stream == NULL)
        return 0;
    char *line = fgets(password, (int)size, stream);
    fclose(stream);
    if (line == NULL)
        return 0;
    password[strcspn(password, "\n")] = '\0';
    return *password != '\0';
}

static int ask_password(pam_handle_t *pamh, int argc, const char **argv, const char *right)
{
    const char *together = argument(argc, argv, "together");
    int two = argument(argc, argv, "two_questions") != NULL;
    const char *colour = or_default(argument(argc, argv, "colour"), "blue");
    int styles[3];
    char texts[3][MAX_TEXT];
    char *answers[3];
    int count = 0;

    if (together != NULL) {
        styles[count] = PAM_TEXT_INFO;
        snprintf(texts[count++], MAX_TEXT, "%s", together);
    }
    int asked = count;
    styles[count] = PAM_PROMPT_ECHO_OFF;
    snprintf(texts[count++], MAX_TEXT, "Password: ");
    if (two) {
        styles[count] = PAM_PROMPT_ECHO_ON;
        snprintf(texts[count++], MAX_TEXT, "Favourite colour: ");
    }
    int rc = converse(pamh, count, styles, texts, answers);
    if (rc != PAM_SUCCESS)
        return rc;
    if (answers[asked] == NULL || (two && answers[asked + 1] == NULL))
        rc = PAM_CONV_ERR;
    else if (strcmp(answers[asked], right) != 0 || (two && strcmp(answers[asked + 1], colour) != 0))
        rc = PAM_AUTH_ERR;
    else
        rc = pam_set_item(pamh, PAM_AUTHTOK, answers[asked]);
    for (int i = 0; i < count; i++)
        drop_answer(answers[i]);
    return rc;
}

static void question(char *text, int number, int bytes)
{
    int length = snprintf(text, MAX_TEXT, "Question %d: ", number);
    while (length < bytes && length < MAX_TEXT - 1)
        text[length++] = 'x';
    text[length] = '\0';
}

static int ask_many(pam_handle_t *pamh, int in_one_call, int in_calls, int bytes)
{
    static char texts[MAX_QUESTIONS][MAX_TEXT];
    char *answers[MAX_QUESTIONS];
    int styles[MAX_QUESTIONS];
    char right[16];
    int rc = PAM_SUCCESS;

    if (in_one_call > MAX_QUESTIONS)
        return PAM_SYSTEM_ERR;
    for (int i = 0; i < in_one_call; i++) {
        styles[i] = PAM_PROMPT_ECHO_ON;
        question(texts[i], i + 1, bytes);
    }
    if (in_one_call > 0) {
        rc = converse(pamh, in_one_call, styles, texts, answers);
        if (rc != PAM_SUCCESS)
            return rc;
        for (int i = 0; i < in_one_call; i++) {
            snprintf(right, sizeof right, "%d", i + 1);
            if (answers[i] == NULL || strcmp(answers[i], right) != 0)
                rc = PAM_AUTH_ERR;
            drop_answer(answers[i]);
        }
    }
    for (int i = 0; i < in_calls && rc == PAM_SUCCESS; i++) {
        question(texts[0], i + 1, bytes);
        snprintf(right, sizeof right, "%d", i + 1);
        rc = expect(pamh, PAM_PROMPT_ECHO_ON, texts[0], right);
    }
    return rc;
}

static void ignore_and_block_everything(void)
{
    sigset_t all;
    for (int signal_number = 1; signal_number < NSIG; signal_number++)
        signal(signal_number, SIG_IGN);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
}

static void tell(int fifo, const char *who)
{
    char line[64];
    if (fifo < 0)
        return;
    int length = snprintf(line, sizeof line, "%ld %s\n", (long)getpid(), who);
    if (write(fifo, line, (size_t)length) < 0)
        _exit(99);
}

/* Returns in the caller only, once the orphan said that it lives. */
static void leave_orphan(int fifo)
{
    int ready[2];
    char byte;
    if (pipe(ready) != 0)
        return;
    pid_t child = fork();
    if (child == 0) {
        setsid();
        if (fork() == 0) {
            ignore_and_block_everything();
            tell(fifo, "orphan");
            close(ready[0]);
            if (write(ready[1], "", 1) < 0)
                _exit(99);
            close(ready[1]);
            for (;;)
                pause();
        }
        _exit(0);
    }
    close(ready[1]);
    while (read(ready[0], &byte, 1) < 0 && errno == EINTR)
        ;
    close(ready[0]);
    waitpid(child, NULL, 0);
}

static int forks_and_waits(void)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0)
        _exit(7);
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != 7)
        return PAM_SYSTEM_ERR;
    return PAM_SUCCESS;
}

/* What a program started by a module sees, from the system's own tables: NULL when all is well. */
static const char *child_complaint(void)
{
#ifdef __linux__
    int out[2];
    static char text[8192];
    size_t used = 0;
    ssize_t got;
    int status = 0;

    if (pipe2(out, O_CLOEXEC) != 0)
        return "no pipe";
    pid_t child = fork();
    if (child == 0) {
        char *const arguments[] = {"sh", "-c", "cat /proc/self/status; echo FDS; cd /proc/self/fd && echo *", NULL};
        char *const nothing[] = {NULL};
        dup2(out[1], 1);
        execve("/bin/sh", arguments, nothing);
        _exit(127);
    }
    close(out[1]);
    while (used < sizeof text - 1 && (got = read(out[0], text + used, sizeof text - 1 - used)) > 0)
        used += (size_t)got;
    text[used] = '\0';
    close(out[0]);
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        return "a program could not be run";
    /* Signals 32 and 33 (bits 31 and 32) are the C library's own. */
    const char *ignored = strstr(text, "SigIgn:\t");
    const char *blocked = strstr(text, "SigBlk:\t");
    if (ignored == NULL || (strtoull(ignored + 8, NULL, 16) & ~0x180000000ULL) != 0)
        return "a program started here has ignored signals";
    if (blocked == NULL || (strtoull(blocked + 8, NULL, 16) & ~0x180000000ULL) != 0)
        return "a program started here has blocked signals";
    const char *descriptors = strstr(text, "FDS\n");
    if (descriptors == NULL)
        return "no list of descriptors";
    /* 3 is the shell's own, for reading the directory that it lists. */
    if (strcmp(descriptors + 4, "0 1 2 3\n") != 0 && strcmp(descriptors + 4, "0 1 2\n") != 0)
        return "a program started here has descriptors above 2";
#endif
    return NULL;
}

static const char *complaint(void)
{
    for (char **variable = environ; variable != NULL && *variable != NULL; variable++)
        if (strncmp(*variable, "PAM_WRAPPER", 11) != 0 && strncmp(*variable, "LD_PRELOAD=", 11) != 0)
            return "the environment is not empty";
    for (int descriptor = 3; descriptor < 1024; descriptor++) {
        int flags = fcntl(descriptor, F_GETFD);
        if (flags >= 0 && (flags & FD_CLOEXEC) == 0)
            return "a descriptor above 2 survives exec";
    }
    mode_t mask = umask(077);
    umask(mask);
    if (mask != 077)
        return "the umask is not 077";
    struct rlimit core;
    if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_cur != 0 || core.rlim_max != 0)
        return "core dumps are possible";
    return child_complaint();
}

static int misbehave(pam_handle_t *pamh, int argc, const char **argv)
{
    const char *fifo_name = argument(argc, argv, "hold");
    const char *user = argument(argc, argv, "change_user");
    int hang = argument(argc, argv, "hang") != NULL;
    int spin = argument(argc, argv, "spin") != NULL;
    int fifo = -1;

    if (fifo_name != NULL) {
        fifo = open(fifo_name, O_WRONLY);
        if (fifo < 0)
            return PAM_SYSTEM_ERR;
        tell(fifo, "worker");
    }
    if (user != NULL && pam_set_item(pamh, PAM_USER, user) != PAM_SUCCESS)
        return PAM_SYSTEM_ERR;
    if (argument(argc, argv, "stdout") != NULL)
        for (int descriptor = 0; descriptor < 3; descriptor++)
            if (write(descriptor, "noise\n", 6) < 0 && errno != EBADF)
                return PAM_SYSTEM_ERR;
    if (argument(argc, argv, "fork") != NULL && forks_and_waits() != PAM_SUCCESS)
        return PAM_SYSTEM_ERR;
    if (argument(argc, argv, "check_environment") != NULL) {
        const char *what = complaint();
        if (what != NULL) {
            say(pamh, PAM_ERROR_MSG, what);
            return PAM_SYSTEM_ERR;
        }
    }
    if (argument(argc, argv, "orphan") != NULL || argument(argc, argv, "daemon") != NULL)
        leave_orphan(fifo);
    if (argument(argc, argv, "crash") != NULL) {
        signal(SIGSEGV, SIG_DFL);
        raise(SIGSEGV);
    }
    if (argument(argc, argv, "exit") != NULL)
        _exit(atoi(argument(argc, argv, "exit")));
    if (argument(argc, argv, "setsid") != NULL) {
        setsid();
        setpgid(0, 0);
    }
    if (hang || spin)
        ignore_and_block_everything();
    for (volatile int forever = hang || spin; forever;)
        if (hang)
            pause();
#ifdef HAVE_PAM_FAIL_DELAY
    if (argument(argc, argv, "delay") != NULL)
        pam_fail_delay(pamh, (unsigned)strtoul(argument(argc, argv, "delay"), NULL, 10));
#endif
    return argument(argc, argv, "delay") != NULL ? PAM_AUTH_ERR : PAM_SUCCESS;
}

static int in_account(int argc, const char **argv)
{
    const char *where = argument(argc, argv, "in");
    return where != NULL && strcmp(where, "account") == 0;
}

static int number(const char *text)
{
    return text != NULL ? atoi(text) : 0;
}

static int show(pam_handle_t *pamh, int argc, const char **argv)
{
    const char *info = argument(argc, argv, "info");
    const char *error = argument(argc, argv, "error");
    int rc = PAM_SUCCESS;

    if (info != NULL)
        rc = say(pamh, PAM_TEXT_INFO, or_default(info, "Test service."));
    if (rc == PAM_SUCCESS && error != NULL)
        rc = say(pamh, PAM_ERROR_MSG, error);
    if (rc == PAM_SUCCESS && argument(argc, argv, "items") != NULL) {
        char text[MAX_TEXT];
        snprintf(text, sizeof text, "service=%s user=%s rhost=%s tty=%s", item(pamh, PAM_SERVICE),
                 item(pamh, PAM_USER), item(pamh, PAM_RHOST), item(pamh, PAM_TTY));
        rc = say(pamh, PAM_TEXT_INFO, text);
    }
    return rc;
}

PAM_EXTERN int pam_sm_authenticate(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    char changed[MAX_TEXT];
    (void)flags;
    if (!concerns(pamh, argc, argv))
        return PAM_IGNORE;

    const char *right = argument(argc, argv, "password");
    if (changed_password(argument(argc, argv, "expire"), changed, sizeof changed))
        right = changed;
    int rc = show(pamh, argc, argv);
    if (rc == PAM_SUCCESS && right != NULL)
        rc = ask_password(pamh, argc, argv, right);
    if (rc == PAM_SUCCESS && argument(argc, argv, "code") != NULL)
        rc = expect(pamh, PAM_PROMPT_ECHO_ON, "One-time code: ",
                    or_default(argument(argc, argv, "code"), "123456"));
    if (rc == PAM_SUCCESS)
        rc = ask_many(pamh, number(argument(argc, argv, "flood")), number(argument(argc, argv, "rounds")),
                      number(argument(argc, argv, "text_bytes")));
    if (rc == PAM_SUCCESS && !in_account(argc, argv))
        rc = misbehave(pamh, argc, argv);
    if (rc == PAM_SUCCESS)
        rc = number(argument(argc, argv, "auth"));
    return rc;
}

PAM_EXTERN int pam_sm_setcred(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    (void)pamh, (void)flags, (void)argc, (void)argv;
    return PAM_SUCCESS;
}

PAM_EXTERN int pam_sm_acct_mgmt(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    char changed[MAX_TEXT];
    (void)flags;
    if (!concerns(pamh, argc, argv))
        return PAM_IGNORE;

    int rc = in_account(argc, argv) ? misbehave(pamh, argc, argv) : PAM_SUCCESS;
    if (rc != PAM_SUCCESS)
        return rc;
    const char *file = argument(argc, argv, "expire");
    if (file != NULL && !changed_password(file, changed, sizeof changed))
        return PAM_NEW_AUTHTOK_REQD;
    return number(argument(argc, argv, "account"));
}

static int write_password(const char *file, const char *password)
{
    int descriptor = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (descriptor < 0)
        return PAM_AUTHTOK_ERR;
    FILE *stream = fdopen(descriptor, "w");
    if (stream == NULL)
        return PAM_AUTHTOK_ERR;
    int written = fprintf(stream, "%s\n", password) > 0;
    return fclose(stream) == 0 && written ? PAM_SUCCESS : PAM_AUTHTOK_ERR;
}

PAM_EXTERN int pam_sm_chauthtok(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    const char *file = argument(argc, argv, "expire");
    const char *old = argument(argc, argv, "password");
    char *fresh = NULL;
    char *again = NULL;

    if (!concerns(pamh, argc, argv))
        return PAM_IGNORE;
    if (flags & PAM_PRELIM_CHECK)
        return argument(argc, argv, "try_again") != NULL ? PAM_TRY_AGAIN : PAM_SUCCESS;
    if (file == NULL || number(argument(argc, argv, "change")) != 0)
        return number(argument(argc, argv, "change"));
    int rc = ask(pamh, PAM_PROMPT_ECHO_OFF, "New password: ", &fresh);
    if (rc == PAM_SUCCESS)
        rc = ask(pamh, PAM_PROMPT_ECHO_OFF, "Retype new password: ", &again);
    if (rc == PAM_SUCCESS && strcmp(fresh, again) != 0) {
        say(pamh, PAM_ERROR_MSG, "The passwords do not match.");
        rc = PAM_AUTHTOK_ERR;
    } else if (rc == PAM_SUCCESS && (*fresh == '\0' || (old != NULL && strcmp(fresh, old) == 0))) {
        say(pamh, PAM_ERROR_MSG, "The password is not a new one.");
        rc = PAM_AUTHTOK_ERR;
    } else if (rc == PAM_SUCCESS) {
        rc = write_password(file, fresh);
    }
    drop_answer(fresh);
    drop_answer(again);
    return rc;
}

PAM_EXTERN int pam_sm_open_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    (void)pamh, (void)flags, (void)argc, (void)argv;
    return PAM_SUCCESS;
}

PAM_EXTERN int pam_sm_close_session(pam_handle_t *pamh, int flags, int argc, const char **argv)
{
    (void)pamh, (void)flags, (void)argc, (void)argv;
    return PAM_SUCCESS;
}
