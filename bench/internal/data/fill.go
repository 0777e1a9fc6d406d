package data

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
)

// Fill fills buf with the bytes of a file at offset off, a multiple of 16. They are the
// keystream of AES-128-CTR with the seed as key. File number and offset are the counter,
// so no two pieces are equal.
func Fill(buf []byte, seed, file uint64, off int64) {
	var key, counter [aes.BlockSize]byte
	binary.BigEndian.PutUint64(key[:], seed)
	binary.BigEndian.PutUint64(counter[:], file)
	binary.BigEndian.PutUint64(counter[8:], uint64(off)/aes.BlockSize)
	block, err := aes.NewCipher(key[:])
	if err != nil { // cannot happen with a key of this length
		return
	}
	clear(buf)
	cipher.NewCTR(block, counter[:]).XORKeyStream(buf, buf)
}

// stampEvery is the smallest piece, in bytes, that a drive may compare.
const stampEvery = 512

// Stamp makes each 512 bytes of a buffer that Fill has filled different from those with
// any other stamp or offset. It is much cheaper than Fill.
func Stamp(buf []byte, stamp uint64, off int64) {
	for i := 0; i+stampEvery <= len(buf); i += stampEvery {
		binary.LittleEndian.PutUint64(buf[i:], uint64(off)+uint64(i))
		binary.LittleEndian.PutUint64(buf[i+8:], stamp)
	}
}
