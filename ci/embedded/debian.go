package embedded

import "dagger.io/dagger"

// DebianSuite is the Debian that the engine's own containers are made of.
const DebianSuite = "bookworm"

func debian(suite string) Recipe {
	return Recipe{file: "debian.go", MadeOf: "Debian " + suite + " by mmdebstrap, with ca-certificates", Suite: suite}
}

// install is one command, because the engine looks after certificates before and after each.
const install = `export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet
apt-get install --yes --quiet --no-install-recommends "$@"
rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb`

// withPackages installs Debian packages in one layer, and leaves no lists behind.
func withPackages(c *dagger.Container, packages ...string) *dagger.Container {
	return c.WithExec(append([]string{"sh", "-euc", install, "install"}, packages...))
}

// withoutCertificateUpdate has the engine leave the certificates of the container alone. Where it finds the program
// that updates them, it runs it before and after each command, which takes longer than most commands of these tools do.
func withoutCertificateUpdate(c *dagger.Container) *dagger.Container {
	return c.WithoutFiles([]string{"/usr/sbin/update-ca-certificates", certificateUpdatePath})
}

const certificateUpdatePath = "/usr/local/sbin/update-ca-certificates"

// QuickCertificates and WithoutCertificates are commands of a shell for the root file system at $1, once it is made.
// Where the machine trusts authorities of its own, the engine runs update-ca-certificates before and after each command
// of a container, and Debian's starts several processes for each of 140 certificates: 0.8 s each time on two cores.
//
// QuickCertificates puts one before it that does the same in 10 ms while no certificate comes or goes.
// WithoutCertificates is for containers that no user's command runs in: the engine then writes the bundle by itself.
const (
	QuickCertificates   = `printf %s "$` + CertificateUpdateVariable + `" > "$1` + certificateUpdatePath + `" && chmod 755 "$1` + certificateUpdatePath + `"`
	WithoutCertificates = `rm "$1/usr/sbin/update-ca-certificates"`
)

// CertificateUpdateVariable is the environment variable that hands CertificateUpdate to QuickCertificates.
const CertificateUpdateVariable = "MILLRACE_CERTIFICATE_UPDATE"

// CertificateUpdate is a program in the Perl that every Debian has.
const CertificateUpdate = `#!/usr/bin/perl
# Writes the bundle of certificates as Debian's update-ca-certificates does, in one process instead of several
# for each certificate. Whatever else there is to do, a certificate to link or to unlink, is left to that program.
use strict;
use warnings;
use File::Find;

my $debian = "/usr/sbin/update-ca-certificates";
my ($list, $shipped, $own, $links) =
	("/etc/ca-certificates.conf", "/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/etc/ssl/certs");
# Without the package there are no certificates to look after.
exit 0 unless -x $debian;

sub hand_over { exec $debian, @ARGV or die "$debian: $!\n" }

sub link_of {
	my ($name) = $_[0] =~ m{([^/]*?)(?:\.crt)?$};
	$name =~ tr/ (),/_==_/;
	return "$links/$name.pem";
}

hand_over if @ARGV or not -s $list;
my @certificates;
open my $lines, "<", $list or hand_over;
while (my $line = <$lines>) {
	chomp $line;
	next if $line eq "" or $line =~ /^#/;
	if ($line =~ s/^!//) {
		hand_over if -l link_of($line);
		next;
	}
	push @certificates, "$shipped/$line";
}
my @added;
find({ no_chdir => 1, follow => 1, wanted => sub { push @added, $_ if /\.crt$/ and -f } }, $own) if -d $own;
push @certificates, sort @added;

my $bundle = "";
for my $certificate (@certificates) {
	my $link = link_of($certificate);
	hand_over unless -f $certificate and -e $link and (readlink($link) // "") eq $certificate;
	open my $in, "<", $certificate or hand_over;
	local $/;
	my $text = <$in>;
	$text .= "\n" if $text ne "" and $text !~ /\n\z/;
	$bundle .= $text;
}
my $aside = "$links/ca-certificates.crt.new";
open my $out, ">", $aside or hand_over;
print $out $bundle and close $out or die "$aside: $!\n";
chmod 0644, $aside;
rename $aside, "$links/ca-certificates.crt" or die "$aside: $!\n";
print "0 added, 0 removed; done.\n";
`
