package embedded

import "dagger.io/dagger"

// k6Version is that of the load generator, and of the image that it stands in for.
const k6Version = "1.6.1"

func k6() Recipe {
	return Recipe{
		file:     "k6.go",
		MadeOf:   "k6 " + k6Version + " from the Go module proxy",
		Base:     "library/debian:" + DebianSuite + "-slim",
		Programs: []Module{K6Module},
		Build: func(base *dagger.Container, in Inputs) *dagger.Container {
			return withoutCertificateUpdate(base).
				WithExec([]string{"useradd", "--uid", "12345", "--create-home", "k6"}).
				WithFile("/usr/bin/k6", in.Programs[K6Module].File("k6")).
				WithUser("12345").
				WithWorkdir("/home/k6").
				WithEntrypoint([]string{"k6"})
		},
	}
}
