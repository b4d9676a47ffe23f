module span/examples/join

go 1.25

require span v0.0.0

replace span => ../../../span-ffi/go
