package step

import (
	"context"

	"dagger.io/dagger"
)

// WithService has a container reach a service by a name, and the service run until the session ends.
//
// What nobody holds ends 10 s after the last container that had it. To bind a way to the caller's machine (tcp://...) in the
// moment of its end makes the engine v0.19.10 crash, with all that it runs for others.
// Where the service can't be started, the container's first command says why.
func WithService(ctx context.Context, ctr *dagger.Container, name string, service *dagger.Service) *dagger.Container {
	_, _ = service.Start(ctx)
	return ctr.WithServiceBinding(name, service)
}
