module contract

go 1.20
