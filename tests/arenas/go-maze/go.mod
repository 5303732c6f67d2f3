module maze

go 1.21
