// For editors, and to have etcd's packages found by the names they import each other by. Tests build without modules,
// from a GOPATH (see `cargo xtask go`): nothing is downloaded by what is written here.
module interop

go 1.24

require go.etcd.io/etcd/client/v3 v3.5.30
