// Package shardtossd puts shards onto an SSD, shared by the service instances of
// a host, verified, and never half.
package shardtossd
