package embedded

import "dagger.io/dagger"

func registry() Recipe {
	return Recipe{
		file:     "registry.go",
		MadeOf:   "the CNCF distribution registry from the Go module proxy, with the file system driver only",
		Base:     "library/debian:" + DebianSuite + "-slim",
		Programs: []Module{RegistryModule},
		Build: func(base *dagger.Container, in Inputs) *dagger.Container {
			return base.
				WithFile("/bin/registry", in.Programs[RegistryModule].File("registry")).
				WithNewFile("/etc/distribution/config.yml", registryConfig).
				WithExposedPort(5000).
				WithEntrypoint([]string{"registry"}).
				WithDefaultArgs([]string{"serve", "/etc/distribution/config.yml"})
		},
	}
}

const registryConfig = `version: 0.1
storage:
  filesystem:
    rootdirectory: /var/lib/registry
  delete:
    enabled: true
http:
  addr: :5000
`
