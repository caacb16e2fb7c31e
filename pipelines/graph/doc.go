// Package graph runs typed steps in the order that their edges give, and says how each one ended.
//
// A [Graph] is built with [Add], which returns the handle of the new node. An edge is such a handle, so an edge to a
// node that does not exist, or a cycle, cannot be written, and the order of Add is an order in which the nodes can run.
//
//	g := graph.New("ci-cd")
//	lint := graph.Add(g, "lint", python.Lint{}.Run)
//	image := graph.Add(g, "build", build, graph.After(lint), graph.Timeout(20*time.Minute))
//	graph.Add(g, "publish", func(ctx context.Context) (Digest, error) {
//		return push(ctx, image.Value())
//	}, graph.Needs(image), graph.When(ref.Branch == "main", "only on main"))
//	result := g.Run(ctx)
//
// Building a graph runs nothing: it can be checked with [Graph.Check] and shown with [Graph.Plan] before [Graph.Run].
// Every node ends with exactly one [Verdict]; a panic in a step is the verdict errored, never a crash.
//
// The package knows nothing of what the steps do. Its only contact with the outside is OpenTelemetry: a run is a span in
// the name of the graph, and every node is a span below it.
package graph
