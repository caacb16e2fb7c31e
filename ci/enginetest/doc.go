// Package enginetest tests the pipelines from end to end: the ci program as users run it, the real engine, the real
// tools, real registries.
//
//	go test -timeout 110m ./ci/enginetest
//
// The first run installs and builds the embedded engine, so it takes long; with -short everything is skipped. An engine
// that runs already is used and left running; one that the tests had to start is stopped at their end. The tests
// that stop it run one by one, before those that run side by side.
//
// testdata/scores is a small project that passes. A test that needs it broken lays a few files over a copy of it.
// testdata/actions stands in for GitHub's actions, where act runs a workflow of the examples.
package enginetest
