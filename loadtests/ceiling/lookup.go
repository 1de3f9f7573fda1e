// The lookup in Go with its standard library: net/http, and one MGET for all requests that wait at that moment.
//
//	lookup PORT REDIS_PORT
package main

import (
	"bufio"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
)

const batchMax = 512

var nobody = []byte(`{"partyList":[]}`)

type question struct {
	key    string
	answer chan []byte
}

// send writes one MGET for all questions that wait, and passes them on in the order of their replies.
func send(redis net.Conn, questions <-chan *question, sent chan<- *question) {
	writer := bufio.NewWriterSize(redis, 1<<16)
	for first := range questions {
		batch := []*question{first}
		for len(batch) < batchMax && len(questions) > 0 {
			batch = append(batch, <-questions)
		}
		writer.WriteString("*" + strconv.Itoa(len(batch)+1) + "\r\n$4\r\nMGET\r\n")
		for _, each := range batch {
			writer.WriteString("$" + strconv.Itoa(len(each.key)) + "\r\n" + each.key + "\r\n")
		}
		for _, each := range batch {
			sent <- each
		}
		if err := writer.Flush(); err != nil {
			log.Fatal(err)
		}
	}
}

// receive reads the replies and gives each value to the question that waits for it.
func receive(redis net.Conn, sent <-chan *question) {
	reader := bufio.NewReaderSize(redis, 1<<16)
	for {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			log.Fatal(err)
		}
		if line[0] == '*' {
			continue
		}
		size, err := strconv.Atoi(strings.TrimSpace(string(line[1:])))
		if err != nil || line[0] != '$' {
			log.Fatalf("Redis answered %q", line)
		}
		value := nobody
		if size >= 0 {
			value = make([]byte, size+2)
			if _, err := io.ReadFull(reader, value); err != nil {
				log.Fatal(err)
			}
			value = value[:size]
		}
		(<-sent).answer <- value
	}
}

func main() {
	runtime.GOMAXPROCS(1) // one worker, like the other sides
	redis, err := net.Dial("tcp", "127.0.0.1:"+os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	questions, sent := make(chan *question, 4096), make(chan *question, 1<<16)
	go send(redis, questions, sent)
	go receive(redis, sent)
	handler := func(writer http.ResponseWriter, request *http.Request) {
		words := strings.Split(request.URL.Path, "/")
		asked := &question{"p:" + words[2] + ":" + words[3], make(chan []byte, 1)}
		questions <- asked
		body := <-asked.answer
		writer.Header()["Content-Type"] = []string{"application/json"}
		writer.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
		writer.Write(body)
	}
	log.Fatal(http.ListenAndServe("127.0.0.1:"+os.Args[1], http.HandlerFunc(handler)))
}
