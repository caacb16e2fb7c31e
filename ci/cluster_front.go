package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// front opens a port of this machine that leads to a tunnel of the engine, and returns its address. It is closed when ctx ends.
//
// The engine's tunnel does not learn when a connection is closed on this side. What comes for such a connection afterwards ends the
// tunnel as a whole, with all other connections. So none is closed here before the other side has closed it: what still comes is
// read and thrown away.
func front(ctx context.Context, port int, tunnel string) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return "", fmt.Errorf("open a port for the cluster: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	go func() {
		for {
			in, err := listener.Accept()
			switch {
			case errors.Is(err, net.ErrClosed):
				return
			case err != nil:
				time.Sleep(100 * time.Millisecond) // out of files, most likely: some come back
			default:
				go forward(in, tunnel)
			}
		}
	}()
	return listener.Addr().String(), nil
}

func forward(in net.Conn, tunnel string) {
	defer in.Close()
	out, err := net.Dial("tcp", tunnel)
	if err != nil {
		return
	}
	go func() {
		_, _ = io.Copy(in, out)
		_ = in.Close()
		_, _ = io.Copy(io.Discard, out)
		_ = out.Close()
	}()
	_, _ = io.Copy(out, in)
}
