package main

type shellCmd struct{}
