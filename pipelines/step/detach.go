package step

import "dagger.io/dagger"

// Folder returns a folder of an uploaded tree, such that what is made of it is shared with every run whose folder is equal,
// and with it alone. What is made of tree.Directory(path) is shared too, but on the way a run may read another run's disk:
//
// The engine knows a folder of an uploaded tree by its content, and hands whatever was made of it to all runs that go on at
// the time. What it hands out remembers how it was made. A run that has to carry out a step of that, because the run that
// began it has ended, first repeats what lies before: the upload of the whole other tree, from a path that may be gone or
// hold other files by now, and what it finds there counts as the content of old from then on, for other runs too.
//
// A mount takes the folder as an argument, which is told apart by its content, and not as what the rest is called on. So a
// run that comes to the same mount by its own tree has all that it takes to repeat what is made of it, and uploads nothing.
// Taking a folder out of a mount runs nothing.
func Folder(c *dagger.Client, tree *dagger.Directory, path string) *dagger.Directory {
	return c.Container().WithMountedDirectory(mount, tree.Directory(path)).Directory(mount)
}

// File is [Folder] for a file of an uploaded tree.
func File(c *dagger.Client, tree *dagger.Directory, path string) *dagger.File {
	return c.Container().WithMountedFile(mount, tree.File(path)).File(mount)
}

// mount is where a folder or file is mounted in a container that never runs.
const mount = "/source"
