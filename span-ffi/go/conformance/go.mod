module span/conformance

go 1.25.0

require (
	golang.org/x/net v0.57.0
	span v0.0.0
)

replace span => ../
