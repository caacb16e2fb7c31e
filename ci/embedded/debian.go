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
	return c.WithoutFile("/usr/sbin/update-ca-certificates")
}
