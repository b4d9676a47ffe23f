module span

go 1.24
