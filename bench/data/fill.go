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
