# A name server for tests, in a network namespace of its own: sets the loopback interface up, and
# says that each name it is asked for is 127.0.0.1.
use strict;
use warnings;
use Socket;

socket(my $socket, PF_INET, SOCK_DGRAM, 0) or die "socket: $!";
# SIOCSIFFLAGS with IFF_UP and IFF_LOOPBACK, a struct ifreq.
my $up = pack('a16 s x22', 'lo', 0x9);
ioctl($socket, 0x8914, $up) or die "lo: $!";
bind($socket, sockaddr_in(53, INADDR_LOOPBACK)) or die "bind: $!";
while (defined(my $from = recv($socket, my $asked, 512, 0))) {
    my ($id, $flags, @counts) = unpack('n6', $asked);
    my $end = index($asked, "\0", 12) + 5;
    my $question = substr($asked, 12, $end - 12);
    my $type = unpack('n', substr($question, -4, 2));
    # A for A, nothing for AAAA and all else.
    my $answer = $type == 1 ? pack('n n n N n C4', 0xc00c, 1, 1, 60, 4, 127, 0, 0, 1) : '';
    my $header = pack('n6', $id, 0x8180, 1, $answer ne '' ? 1 : 0, 0, 0);
    send($socket, $header . $question . $answer, 0, $from);
}
