/* The floor: the least that a lookup over HTTP and Redis costs, in C.

   One thread waits with epoll.  It reads every request that has arrived, asks Redis for all their keys with one MGET,
   and writes each answer when its value arrives.  It checks nothing, knows no routes and has no directory.

       lookup PORT REDIS_PORT        GET /participants/{Type}/{ID} answers the value of p:{Type}:{ID}

   Several processes can listen on the same port (SO_REUSEPORT). */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 512, BATCH = 512, HEAD = 32, KEY = 200, REQUEST = 8192, WAITING = 1 << 16, REPLIES = 1 << 20 };

typedef struct {
    int fd, waiting, closed; /* waiting: requests that Redis has not answered yet */
    size_t used;
    char bytes[REQUEST];
} Client;

static int epoll, listener, redis;

/* The clients of all requests under way, in the order in which Redis answers them. */
static Client *waiting[WAITING];
static unsigned first_waiting, next_waiting;

/* Room for the head of the MGET, then the keys of this turn in Redis' protocol: "$5\r\np:A:1\r\n". */
static char command[HEAD + BATCH * (KEY + 16)];
static size_t command_used = HEAD;
static int keys_count;

static char replies[REPLIES];
static size_t replies_used;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void watch(int fd, void *owner) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = owner};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0) fail("epoll_ctl");
}

static int open_socket(int flags) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | flags, 0);
    if (fd < 0) fail("socket");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
    return fd;
}

static struct sockaddr_in make_address(const char *port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_port = htons(atoi(port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static void write_all(int fd, const char *bytes, size_t size) {
    while (size) {
        ssize_t written = write(fd, bytes, size);
        if (written < 0 && errno != EAGAIN && errno != EINTR) return; /* its reader will see the end */
        if (written > 0) bytes += written, size -= written;
    }
}

static void accept_clients(void) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        int one = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        Client *client = calloc(1, sizeof *client);
        if (!client) fail("calloc");
        client->fd = fd;
        watch(fd, client);
    }
}

static void close_client(Client *client) {
    if (!client->closed) close(client->fd);
    client->closed = 1;
    if (!client->waiting) free(client);
}

/* Send the keys of this turn to Redis as one MGET. */
static void send_keys(void) {
    char head[HEAD + 1];
    if (!keys_count) return;
    int size = snprintf(head, sizeof head, "*%d\r\n$4\r\nMGET\r\n", keys_count + 1);
    memcpy(command + HEAD - size, head, size);
    write_all(redis, command + HEAD - size, command_used - HEAD + size);
    command_used = HEAD, keys_count = 0;
}

/* Take one request line; return 0 if it is no lookup. */
static int take_request(Client *client, const char *line, const char *end) {
    static const char prefix[] = "GET /participants/";
    const size_t length = sizeof prefix - 1;
    if ((size_t)(end - line) < length || memcmp(line, prefix, length)) return 0;
    const char *type = line + length, *slash = memchr(type, '/', end - type), *stop = slash;
    while (stop && stop < end && *stop != ' ' && *stop != '?') stop++;
    if (!slash || stop == end || stop - type > KEY - 3) return 0;
    int type_size = slash - type, id_size = stop - slash - 1;
    command_used += sprintf(command + command_used, "$%d\r\np:%.*s:%.*s\r\n", type_size + id_size + 3, type_size,
                            type, id_size, slash + 1);
    waiting[next_waiting++ % WAITING] = client;
    client->waiting++;
    if (++keys_count == BATCH) send_keys();
    return 1;
}

static void read_client(Client *client) {
    ssize_t size = read(client->fd, client->bytes + client->used, REQUEST - client->used);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (size <= 0) {
        close_client(client);
        return;
    }
    client->used += size;
    char *begin = client->bytes, *end = client->bytes + client->used, *head_end;
    while ((head_end = memmem(begin, end - begin, "\r\n\r\n", 4))) {
        if (!take_request(client, begin, head_end)) {
            close_client(client);
            return;
        }
        begin = head_end + 4;
    }
    client->used = end - begin;
    memmove(client->bytes, begin, client->used);
}

static void answer(const char *body, int size) {
    char bytes[8192];
    Client *client = waiting[first_waiting++ % WAITING];
    client->waiting--;
    int used = snprintf(bytes, sizeof bytes,
                        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%.*s", size,
                        size, body);
    if (used >= (int)sizeof bytes) fail("a value is too long");
    if (client->closed)
        close_client(client);
    else
        write_all(client->fd, bytes, used);
}

/* Read replies, and answer for each value that is complete: "*2\r\n$3\r\nabc\r\n$-1\r\n". */
static void read_redis(void) {
    static const char nobody[] = "{\"partyList\":[]}";
    ssize_t size = read(redis, replies + replies_used, REPLIES - replies_used);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (size <= 0) fail("Redis closed the connection");
    replies_used += size;
    char *begin = replies, *end = replies + replies_used, *line_end;
    while ((line_end = memchr(begin, '\n', end - begin))) {
        if (*begin == '$') {
            int value_size = atoi(begin + 1);
            if (value_size >= 0 && end - line_end - 1 < value_size + 2) break; /* the rest has not arrived */
            if (value_size >= 0)
                answer(line_end + 1, value_size), line_end += value_size + 2;
            else
                answer(nobody, sizeof nobody - 1);
        } else if (*begin != '*') {
            fail("Redis answered an error");
        }
        begin = line_end + 1;
    }
    replies_used = end - begin;
    memmove(replies, begin, replies_used);
}

int main(int count, char **words) {
    if (count != 3) return fprintf(stderr, "usage: lookup PORT REDIS_PORT\n"), 2;
    signal(SIGPIPE, SIG_IGN); /* a client can go before its answers are written */
    struct sockaddr_in here = make_address(words[1]), there = make_address(words[2]);
    epoll = epoll_create1(0);
    redis = open_socket(0);
    if (connect(redis, (void *)&there, sizeof there) < 0) fail("Redis");
    listener = open_socket(SOCK_NONBLOCK);
    if (bind(listener, (void *)&here, sizeof here) < 0 || listen(listener, 1024) < 0) fail("listen");
    watch(listener, &listener);
    watch(redis, &redis);
    for (struct epoll_event events[EVENTS];;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            void *owner = events[i].data.ptr;
            if (owner == &listener)
                accept_clients();
            else if (owner == &redis)
                read_redis();
            else
                read_client(owner);
        }
        send_keys();
    }
}
