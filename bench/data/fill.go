package data

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
)

// Fill makes buf what file number file holds at off, a multiple of 16: bytes of the
// keystream of AES-128-CTR, whose key is the seed and whose counter is file and offset.
// No two of them are the same.
func Fill(buf []byte, seed, file uint64, off int64) {
	var key, counter [aes.BlockSize]byte
	binary.BigEndian.PutUint64(key[:], seed)
	binary.BigEndian.PutUint64(counter[:], file)
	binary.BigEndian.PutUint64(counter[8:], uint64(off)/aes.BlockSize)
	block, err := aes.NewCipher(key[:])
	if err != nil { // only for a key of another length
		return
	}
	clear(buf)
	cipher.NewCTR(block, counter[:]).XORKeyStream(buf, buf)
}

// stampEvery is the least that a device may compare, in bytes.
const stampEvery = 512

// Stamp makes each 512 bytes of a buffer that Fill has filled unlike any that were
// written with another stamp or at another offset before, at a fraction of its cost.
func Stamp(buf []byte, stamp uint64, off int64) {
	for i := 0; i+stampEvery <= len(buf); i += stampEvery {
		binary.LittleEndian.PutUint64(buf[i:], uint64(off)+uint64(i))
		binary.LittleEndian.PutUint64(buf[i+8:], stamp)
	}
}
