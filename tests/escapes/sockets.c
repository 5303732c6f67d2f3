/* Opens every kind of socket, and reaches for the listeners that the host holds on 127.0.0.1, on an abstract name and on
 * a path: argv is TCP-PORT UDP-PORT ABSTRACT-NAME SOCKET-PATH. CHEATS 29, 38. */
#include "attempt.h"
#include <netinet/in.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>
#ifndef AF_VSOCK
#define AF_VSOCK 40
#endif

static char **arguments;

#define KIND(name, family, type, protocol) \
    static int name(const char *_) { (void)_; return TRIED(socket(family, type, protocol)); }
KIND(inet_stream, AF_INET, SOCK_STREAM, 0)
KIND(inet_datagram, AF_INET, SOCK_DGRAM, 0)
KIND(inet_raw, AF_INET, SOCK_RAW, IPPROTO_ICMP)
KIND(inet6_stream, AF_INET6, SOCK_STREAM, 0)
KIND(inet6_datagram, AF_INET6, SOCK_DGRAM, 0)
KIND(netlink, AF_NETLINK, SOCK_RAW, 0)
KIND(vsock, AF_VSOCK, SOCK_STREAM, 0)
KIND(packet, AF_PACKET, SOCK_RAW, 0)
KIND(algorithm, AF_ALG, SOCK_SEQPACKET, 0)
KIND(unix_stream, AF_UNIX, SOCK_STREAM, 0)
KIND(unix_datagram, AF_UNIX, SOCK_DGRAM, 0)

static struct sockaddr_in local(const char *port) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return to;
}
static int tcp(const char *_) {
    (void)_;
    struct sockaddr_in to = local(arguments[1]);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return fd == -1 ? errno : TRIED(connect(fd, (void *)&to, sizeof to));
}
static int udp(const char *_) {
    (void)_;
    struct sockaddr_in to = local(arguments[2]);
    int fd = socket(AF_INET, SOCK_DGRAM, 0);
    return fd == -1 ? errno : TRIED(sendto(fd, "udp", 3, 0, (void *)&to, sizeof to));
}
static socklen_t named(struct sockaddr_un *to, const char *name, int abstract) {
    memset(to, 0, sizeof *to);
    to->sun_family = AF_UNIX;
    snprintf(to->sun_path + abstract, sizeof to->sun_path - abstract, "%s", name);
    return offsetof(struct sockaddr_un, sun_path) + abstract + strlen(name);
}
static int through(int fd, const char *name, int abstract) {
    struct sockaddr_un to;
    socklen_t size = named(&to, name, abstract);
    return fd == -1 ? errno : TRIED(sendto(fd, "unix", 4, 0, (void *)&to, size));
}
static int abstract_name(const char *_) { (void)_; return through(socket(AF_UNIX, SOCK_DGRAM, 0), arguments[3], 1); }
static int path_name(const char *_) { (void)_; return through(socket(AF_UNIX, SOCK_DGRAM, 0), arguments[4], 0); }

/* socketpair must work, so its ends are turned elsewhere: a datagram end takes an address of its own for each message. */
static int paired(int type) {
    int ends[2];
    return socketpair(AF_UNIX, type, 0, ends) == -1 ? -1 : ends[0];
}
static int paired_abstract(const char *_) { (void)_; return through(paired(SOCK_DGRAM), arguments[3], 1); }
static int paired_path(const char *_) { (void)_; return through(paired(SOCK_DGRAM), arguments[4], 0); }
static int turned(int type) {
    struct sockaddr_un to;
    socklen_t size = named(&to, arguments[4], 0);
    int fd = paired(type);
    return fd == -1 ? errno : TRIED(connect(fd, (void *)&to, size));
}
static int paired_connect(const char *_) { (void)_; return turned(SOCK_DGRAM); }
static int paired_stream(const char *_) { (void)_; return turned(SOCK_STREAM); }
static int paired_packets(const char *_) { (void)_; return turned(SOCK_SEQPACKET); }
static int paired_message(const char *_) {
    (void)_;
    struct sockaddr_un to;
    struct iovec part = {.iov_base = "unix", .iov_len = 4};
    struct msghdr message = {.msg_name = &to, .msg_namelen = named(&to, arguments[4], 0), .msg_iov = &part, .msg_iovlen = 1};
    int fd = paired(SOCK_DGRAM);
    return fd == -1 ? errno : TRIED(sendmsg(fd, &message, 0));
}

int main(int count, char **argv) {
    if (count != 5)
        return 2;
    arguments = argv;
    attempt("inet-stream", inet_stream, 0);
    attempt("inet-datagram", inet_datagram, 0);
    attempt("inet-raw", inet_raw, 0);
    attempt("inet6-stream", inet6_stream, 0);
    attempt("inet6-datagram", inet6_datagram, 0);
    attempt("netlink", netlink, 0);
    attempt("vsock", vsock, 0);
    attempt("packet", packet, 0);
    attempt("algorithm", algorithm, 0);
    attempt("unix-stream", unix_stream, 0);
    attempt("unix-datagram", unix_datagram, 0);
    attempt("tcp", tcp, 0);
    attempt("udp", udp, 0);
    attempt("abstract", abstract_name, 0);
    attempt("path", path_name, 0);
    attempt("paired-abstract", paired_abstract, 0);
    attempt("paired-path", paired_path, 0);
    attempt("paired-connect", paired_connect, 0);
    attempt("paired-stream", paired_stream, 0);
    attempt("paired-seqpacket", paired_packets, 0);
    attempt("paired-message", paired_message, 0);
}
