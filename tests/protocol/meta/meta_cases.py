"""Requests of the meta protocol, each with its whole reply from an empty store: those of memcached 1.6.45."""

from tests.protocol.case import Case

META = [
    Case(
        "mn",
        b"mn\r\n",
        b"MN\r\n",
    ),
    Case(
        "mg of nothing",
        b"mg a v\r\n",
        b"EN\r\n",
    ),
    Case(
        "a bare mg",
        b"ms a 3 F5 E100\r\nfoo\r\nmg a\r\nmg b\r\n",
        b"HD\r\nHD\r\nEN\r\n",
    ),
    Case(
        "mg with all that it tells",
        b"ms a 3 F5 E100\r\nfoo\r\nmg a v s t f c k O12 h\r\n",
        b"HD\r\nVA 3 s3 t-1 f5 c100 ka O12 h0\r\nfoo\r\n",
    ),
    Case(
        "mg tells in the order asked",
        b"ms a 3 F5 E100\r\nfoo\r\nmg a Oxyz k c f t s\r\n",
        b"HD\r\nHD Oxyz ka c100 f5 t-1 s3\r\n",
    ),
    Case(
        "mg without the value where the CAS id is the same",
        b"ms a 3 F5 E100\r\nfoo\r\nmg a v c C100\r\nmg a v c C99\r\n",
        b"HD\r\nHD c100\r\nVA 3 c100\r\nfoo\r\n",
    ),
    Case(
        "mg quietly",
        b"ms a 3 F5 E100\r\nfoo\r\nmg a v q\r\nmg b v q k O1\r\nmn\r\n",
        b"HD\r\nVA 3\r\nfoo\r\nMN\r\n",
    ),
    Case(
        "a miss with key and opaque",
        b"mg b v k O1 s t\r\n",
        b"EN kb O1\r\n",
    ),
    Case(
        "mg of what set stored",
        b"set a 7 0 2\r\nhi\r\nmg a v f s\r\n",
        b"STORED\r\nVA 2 f7 s2\r\nhi\r\n",
    ),
    Case(
        "get of what ms stored",
        b"ms a 3 F5 E100\r\nfoo\r\nget a\r\n",
        b"HD\r\nVALUE a 5 3\r\nfoo\r\nEND\r\n",
    ),
    Case(
        "mg fills in",
        b"mg a v t h N30\r\nmg a v t h N30\r\nmg a N30 v\r\n",
        b"VA 0 t-1 h0 W\r\n\r\nVA 0 t30 h1 Z\r\n\r\nVA 0 Z\r\n\r\n",
    ),
    Case(
        "t before N is not N's",
        b"mg a t N30\r\n",
        b"HD t-1 W\r\n",
    ),
    Case(
        "t after N is N's",
        b"mg a N30 t\r\n",
        b"HD t30 W\r\n",
    ),
    Case(
        "mg changes the ttl",
        b"ms a 3 F5 E100\r\nfoo\r\nmg a t T30 k\r\nmg a t\r\nmg a T0 t\r\n",
        b"HD\r\nHD t-1 ka\r\nHD t30\r\nHD t-1\r\n",
    ),
    Case(
        "one wins when the ttl runs out",
        b"ms a 1 T30\r\nx\r\nmg a R60 t\r\nmg a R60 t\r\nmg a R10\r\n",
        b"HD\r\nHD t30 W\r\nHD t30 Z\r\nHD Z\r\n",
    ),
    Case(
        "nobody wins while there is time",
        b"ms a 1 T100\r\nx\r\nmg a R60 t v\r\nms b 1\r\nx\r\nmg b R60\r\n",
        b"HD\r\nVA 1 t100\r\nx\r\nHD\r\nHD\r\n",
    ),
    Case(
        "hit before",
        b"ms a 3 F5 E100\r\nfoo\r\nmg a h\r\nmg a h\r\nmg a h u\r\n",
        b"HD\r\nHD h0\r\nHD h1\r\nHD h1\r\n",
    ),
    Case(
        "u leaves no trace",
        b"ms a 3 F5 E100\r\nfoo\r\nmg a u h\r\nmg a u h v\r\nmg a h\r\nmg a u h\r\n",
        b"HD\r\nHD h0\r\nVA 3 h0\r\nfoo\r\nHD h0\r\nHD h1\r\n",
    ),
    Case(
        "h after a get",
        b"ms a 3 F5 E100\r\nfoo\r\nmg a h u\r\nget a\r\nmg a h\r\n",
        b"HD\r\nHD h0\r\nVALUE a 5 3\r\nfoo\r\nEND\r\nHD h1\r\n",
    ),
    Case(
        "h after a multiget",
        b"ms a 3\r\nfoo\r\nms b 1\r\nx\r\nmg a h u\r\nget b a\r\nmg a h\r\nget a b\r\n",
        b"HD\r\nHD\r\nHD h0\r\nVALUE b 0 1\r\nx\r\nVALUE a 0 3\r\nfoo\r\nEND\r\nHD h1\r\n"
        b"VALUE a 0 3\r\nfoo\r\nVALUE b 0 1\r\nx\r\nEND\r\n",
    ),
    Case(
        "h after a mg without it",
        b"ms a 3 F5\r\nfoo\r\nmg a h u\r\nmg a f k s t v\r\nmg a h u\r\n",
        b"HD\r\nHD h0\r\nVA 3 f5 ka s3 t-1\r\nfoo\r\nHD h1\r\n",
    ),
    Case(
        "h after a touch and a get that touches",
        b"ms a 1\r\nx\r\nms b 1\r\nx\r\nmg a h u\r\nmg b h u\r\ntouch a 50\r\ngat 50 b\r\nmg a h t u\r\nmg b h t u\r\n",
        b"HD\r\nHD\r\nHD h0\r\nHD h0\r\nTOUCHED\r\nVALUE b 0 1\r\nx\r\nEND\r\nHD h1 t50\r\nHD h1 t50\r\n",
    ),
    Case(
        "h of a value that replaces another",
        b"ms a 1\r\nx\r\nmg a h\r\nms a 1\r\ny\r\nmg a h u\r\nset a 0 0 2\r\nzz\r\nget a\r\nmg a h\r\n",
        b"HD\r\nHD h0\r\nHD\r\nHD h0\r\nSTORED\r\nVALUE a 0 2\r\nzz\r\nEND\r\nHD h1\r\n",
    ),
    Case(
        "h of a value that another is joined to",
        b"ms a 1\r\nx\r\nmg a h\r\nappend a 0 0 1\r\ny\r\nget a\r\nmg a h u\r\nms a 1 MP\r\nw\r\nmg a h v\r\n",
        b"HD\r\nHD h0\r\nSTORED\r\nVALUE a 0 2\r\nxy\r\nEND\r\nHD h1\r\nHD\r\nVA 3 h0\r\nwxy\r\n",
    ),
    Case(
        "h of a number that grows",
        b"ms a 1\r\n8\r\nmg a h\r\nincr a 5\r\nget a\r\nmg a h u\r\nincr a 90\r\nmg a h v\r\n",
        b"HD\r\nHD h0\r\n13\r\nVALUE a 0 2\r\n13\r\nEND\r\nHD h1\r\n103\r\nVA 3 h0\r\n103\r\n",
    ),
    Case(
        "h of an item that was invalidated",
        b"ms a 1\r\nx\r\nmg a h\r\nmd a I\r\nmg a h\r\nmg a h u\r\n",
        b"HD\r\nHD h0\r\nHD\r\nHD h1 X W\r\nHD h1 Z X\r\n",
    ),
    Case(
        "h of an item that was emptied",
        b"ms a 1\r\nx\r\nmg a h\r\nmd a x\r\nget a\r\nmg a h\r\nmd a x\r\nmg a h s u\r\n",
        b"HD\r\nHD h0\r\nHD\r\nVALUE a 0 0\r\n\r\nEND\r\nHD h1\r\nHD\r\nHD h0 s0\r\n",
    ),
    Case(
        "h of a key that was deleted",
        b"ms a 1\r\nx\r\nmg a h\r\ndelete a\r\nms a 1\r\ny\r\nmg a h\r\nget a\r\nmg a h\r\n",
        b"HD\r\nHD h0\r\nDELETED\r\nHD\r\nHD h0\r\nVALUE a 0 1\r\ny\r\nEND\r\nHD h1\r\n",
    ),
    Case(
        "base64 key",
        b"ms Zm9v 2 b\r\nhi\r\nget foo\r\nmg Zm9v b v k\r\nmg Zm8= b k O1\r\n",
        b"HD\r\nVALUE foo 0 2\r\nhi\r\nEND\r\nVA 2 kZm9v b\r\nhi\r\nEN kZm8= b O1\r\n",
    ),
    Case(
        "base64 of what no line can name",
        b"ms YSBiCg== 2 b\r\nhi\r\nmg YSBiCg== b v k\r\nmd YSBiCg== b k\r\nmg YSBiCg== b v k\r\n",
        b"HD\r\nVA 2 kYSBiCg== b\r\nhi\r\nHD kYSBiCg== b\r\nEN kYSBiCg== b\r\n",
    ),
    Case(
        "broken base64",
        b"mg foo b\r\nmg ==== b\r\nmd foo b q\r\nma foo b\r\nms foo 2 b\r\nhi\r\nmg Zg=x b k\r\nmg Zm9v!!!! b k\r\n",
        b"CLIENT_ERROR error decoding key\r\nCLIENT_ERROR error decoding key\r\n"
        b"CLIENT_ERROR error decoding key\r\n"
        b"CLIENT_ERROR invalid or duplicate flag\r\n"
        b"CLIENT_ERROR error decoding key\r\nEN kZgA= b\r\nEN kZm9v b\r\n",
    ),
    Case(
        "ms modes",
        b"ms a 1 MR\r\nx\r\nms a 1 MA\r\nx\r\nms a 1 MP\r\nx\r\nms a 1 ME\r\n1\r\nms a 1 ME\r\n2\r\n"
        b"ms a 1 MR\r\n3\r\nms a 1 MA\r\n4\r\nms a 1 MP\r\n2\r\nms a 1 MSET\r\n5\r\nmg a v\r\n",
        b"NS\r\nNS\r\nNS\r\nHD\r\nNS\r\nHD\r\nHD\r\nHD\r\nHD\r\nVA 1\r\n5\r\n",
    ),
    Case(
        "ms with an unknown mode",
        b"ms a 1 Mx\r\n1\r\nms a 1 M\r\n1\r\nmg a v\r\n",
        b"CLIENT_ERROR invalid mode for ms M token\r\nCLIENT_ERROR invalid mode for ms M token\r\nEN\r\n",
    ),
    Case(
        "ms adds to nothing",
        b"ms a 1 MA N30 s\r\nx\r\nms a 1 MA N60 s\r\ny\r\nms a 1 MP N60 s\r\nz\r\nmg a v t\r\n",
        b"HD s1\r\nHD s2\r\nHD s3\r\nVA 3 t30\r\nzxy\r\n",
    ),
    Case(
        "ms quietly",
        b"ms a 1 q\r\nx\r\nms a 1 q ME k\r\nx\r\nms a 1 q C5 O1\r\nx\r\nms a 5 q\r\nx\r\n\r\nmn\r\n",
        b"NS ka\r\nEX O1\r\nCLIENT_ERROR bad data chunk\r\nCLIENT_ERROR bad command line format\r\n",
    ),
    Case(
        "ms with flags in the order asked",
        b"ms a 3 k s O9 c E7 F9 T30\r\nfoo\r\nmg a f c t\r\n",
        b"HD ka s3 O9 c7\r\nHD f9 c7 t30\r\n",
    ),
    Case(
        "ms compares",
        b"ms a 3 F5 E100\r\nfoo\r\nms a 1 C99\r\nx\r\nms a 1 C100 E101\r\ny\r\nms b 1 C5\r\n"
        b"x\r\nms a 1 C0\r\nx\r\nmg a v c\r\n",
        b"HD\r\nEX\r\nHD\r\nNF\r\nEX\r\nVA 1 c101\r\ny\r\n",
    ),
    Case(
        "ms joins where the CAS id is right",
        b"ms a 3 F5 E100\r\nfoo\r\nms a 1 MA C99 s\r\nx\r\nms a 1 MA C100 s\r\ny\r\nmg a v\r\n",
        b"HD\r\nEX s1\r\nHD s4\r\nVA 4\r\nfooy\r\n",
    ),
    Case(
        "a refused ms tells no CAS id",
        b"ms a 3 F5 E100\r\nfoo\r\nms a 1 ME c s k\r\nx\r\n",
        b"HD\r\nNS c0 s1 ka\r\n",
    ),
    Case(
        "ms with an older id stores a stale value",
        b"ms a 3 F5 E100\r\nfoo\r\nmd a I E200\r\nmg a v\r\nms a 1 C150 I\r\nx\r\nmg a v\r\n"
        b"ms a 1 C100 E300\r\ny\r\nms a 1 C1000 I\r\nz\r\nmg a v\r\n",
        b"HD\r\nHD\r\nVA 3 X W\r\nfoo\r\nHD\r\nVA 1 Z X\r\nx\r\nEX\r\nEX\r\nVA 1 Z X\r\nx\r\n",
    ),
    Case(
        "ms of a length that is none",
        b"ms a x\r\nms a -1\r\nms a\r\nms a 2147483646\r\n",
        b"CLIENT_ERROR bad command line format\r\n"
        b"CLIENT_ERROR bad command line format\r\n"
        b"CLIENT_ERROR bad command line format\r\n"
        b"CLIENT_ERROR bad command line format\r\n",
    ),
    Case(
        "a block too long for ms",
        b"ms a 1\r\nxyz\r\nmg a\r\n",
        b"CLIENT_ERROR bad data chunk\r\nCLIENT_ERROR bad command line format\r\nEN\r\n",
    ),
    Case(
        "a bad flag of ms passes over the block",
        b"ms a 2 T\r\nhi\r\nms a 2 Fx\r\nhi\r\nms a 2 s s\r\nhi\r\nms a 2 y\r\nhi\r\nmn\r\n",
        b"CLIENT_ERROR bad token in command line format\r\n"
        b"CLIENT_ERROR bad command line format\r\nCLIENT_ERROR duplicate flag\r\n"
        b"CLIENT_ERROR invalid flag\r\nMN\r\n",
    ),
    Case(
        "words that are no flags",
        b"mg a !\r\nmd a \xff\r\nma a -\r\nms a 2 !\r\nmn\r\n",
        b"CLIENT_ERROR bad command line format\r\n"
        b"CLIENT_ERROR bad command line format\r\n"
        b"CLIENT_ERROR bad command line format\r\n"
        b"CLIENT_ERROR bad command line format\r\nMN\r\n",
    ),
    Case(
        "digits are flags that nobody knows",
        b"mg a 1\r\nma a 1\r\n",
        b"CLIENT_ERROR invalid flag\r\nCLIENT_ERROR invalid or duplicate flag\r\n",
    ),
    Case(
        "twice the same flag",
        b"mg a s s\r\nmg a O1 O2\r\nmd a q q\r\nma a c c\r\n",
        b"CLIENT_ERROR duplicate flag\r\nCLIENT_ERROR duplicate flag\r\n"
        b"CLIENT_ERROR duplicate flag\r\nCLIENT_ERROR invalid or duplicate flag\r\n",
    ),
    Case(
        "numbers that are none",
        b"mg a T\r\nmg a Tx\r\nmg a N99999999999\r\nmg a R-\r\nmg a Cx\r\nmg a E-1\r\nma a Dx\r\nma a Jx\r\nma a D\r\n",
        b"CLIENT_ERROR bad token in command line format\r\n"
        b"CLIENT_ERROR bad token in command line format\r\n"
        b"CLIENT_ERROR bad token in command line format\r\nEN\r\n"
        b"CLIENT_ERROR bad token in command line format\r\n"
        b"CLIENT_ERROR bad token in command line format\r\n"
        b"CLIENT_ERROR invalid or duplicate flag\r\n"
        b"CLIENT_ERROR invalid or duplicate flag\r\n"
        b"CLIENT_ERROR invalid or duplicate flag\r\n",
    ),
    Case(
        "a long opaque",
        b"mg a O1111111111111111111111111111111\r\n"
        b"mg a O11111111111111111111111111111111\r\n"
        b"ms a 1 O11111111111111111111111111111111\r\nx\r\n"
        b"md a O11111111111111111111111111111111\r\n"
        b"ma a O11111111111111111111111111111111\r\nmn\r\n",
        b"EN O1111111111111111111111111111111\r\n"
        b"CLIENT_ERROR opaque token too long\r\n"
        b"CLIENT_ERROR opaque token too long\r\n"
        b"CLIENT_ERROR opaque token too long\r\n"
        b"CLIENT_ERROR opaque token too long\r\nMN\r\n",
    ),
    Case(
        "too many flags",
        b"mg a s t f c v k O q h l u x I E1 M D1 J1 C1 F1\r\nmg a s t f c v k O q h l u x I E1 M D1 J1 C1\r\n",
        b"CLIENT_ERROR options flags are too long\r\n",
    ),
    Case(
        "a long key",
        b"mg kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        b"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        b"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        b"kkkkkkkkkkkkk k\r\n"
        b"mg kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        b"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        b"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        b"kkkkkkkkkkkkkk k\r\n"
        b"md kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        b"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        b"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        b"kkkkkkkkkkkkkk\r\n"
        b"ma kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        b"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        b"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        b"kkkkkkkkkkkkkk\r\n"
        b"me kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        b"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        b"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        b"kkkkkkkkkkkkkk\r\n"
        b"ms kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        b"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        b"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        b"kkkkkkkkkkkkkk 2\r\nhi\r\nmn\r\n",
        b"EN kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        b"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        b"kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
        b"kkkkkkkkkkkkkk\r\nCLIENT_ERROR bad command line format\r\n"
        b"CLIENT_ERROR bad command line format\r\n"
        b"CLIENT_ERROR invalid or duplicate flag\r\n"
        b"CLIENT_ERROR bad command line format\r\n"
        b"CLIENT_ERROR bad command line format\r\nMN\r\n",
    ),
    Case(
        "too few words for meta",
        b"mg\r\nms\r\nmd\r\nma\r\nme\r\nms a\r\nmg \r\n",
        b"CLIENT_ERROR bad command line format\r\n"
        b"CLIENT_ERROR bad command line format\r\n"
        b"CLIENT_ERROR bad command line format\r\n"
        b"CLIENT_ERROR bad command line format\r\n"
        b"CLIENT_ERROR bad command line format\r\n"
        b"CLIENT_ERROR bad command line format\r\n"
        b"CLIENT_ERROR bad command line format\r\n",
    ),
    Case(
        "md",
        b"ms a 3 F5 E100\r\nfoo\r\nmd a k O1\r\nmd a k O1\r\nmg a\r\n",
        b"HD\r\nHD ka O1\r\nNF ka O1\r\nEN\r\n",
    ),
    Case(
        "md quietly",
        b"ms a 3 F5 E100\r\nfoo\r\nmd a q\r\nmd a q\r\nmn\r\n",
        b"HD\r\nNF\r\nMN\r\n",
    ),
    Case(
        "md compares",
        b"ms a 3 F5 E100\r\nfoo\r\nmd a C99\r\nmd a C99 q O1\r\nmd a C100\r\nmg a\r\n",
        b"HD\r\nEX\r\nEX O1\r\nHD\r\nEN\r\n",
    ),
    Case(
        "md invalidates",
        b"ms a 3 F5 E100\r\nfoo\r\nmd a I T30 E101\r\nmg a v t c\r\nmg a v\r\nget a\r\nms a 1 \r\nx\r\nmg a v\r\n",
        b"HD\r\nHD\r\nVA 3 t30 c101 X W\r\nfoo\r\nVA 3 Z X\r\nfoo\r\nVALUE a 5 3\r\nfoo\r\nEND\r\nHD\r\nVA 1\r\nx\r\n",
    ),
    Case(
        "md empties",
        b"ms a 3 F5 E100\r\nfoo\r\nmd a x\r\nmg a v s f t c\r\n",
        b"HD\r\nHD\r\nVA 0 s0 f0 t-1 c100\r\n\r\n",
    ),
    Case(
        "md empties with flags and ttl",
        b"ms a 3 F5 E100\r\nfoo\r\nmd a x F3 T30 E9\r\nmg a v s f t c\r\n",
        b"HD\r\nHD\r\nVA 0 s0 f3 t30 c9\r\n\r\n",
    ),
    Case(
        "md empties and invalidates",
        b"ms a 3 F5 E100\r\nfoo\r\nmd a x I E9\r\nmg a v s f t c\r\nmg a v s f t c\r\n",
        b"HD\r\nHD\r\nVA 0 s0 f0 t-1 c9 X W\r\n\r\nVA 0 s0 f0 t-1 c9 Z X\r\n\r\n",
    ),
    Case(
        "ma",
        b"ms n 2\r\n10\r\nma n v\r\nma n D5 v\r\nma n MD v\r\nma n M- D100 v\r\nma n MI\r\nmg n v\r\n",
        b"HD\r\nVA 2\r\n11\r\nVA 2\r\n16\r\nVA 2\r\n15\r\nVA 1\r\n0\r\nHD\r\nVA 2\r\n1 \r\n",
    ),
    Case(
        "ma of nothing",
        b"ma n k O1\r\nma n q\r\nma n N30 J13 v t\r\nma n v t\r\n",
        b"NF kn O1\r\nNF\r\nVA 2 t30\r\n13\r\nVA 2 t30\r\n14\r\n",
    ),
    Case(
        "ma fills in with its ttl",
        b"ma n N30 t J5\r\nma n t N60 v\r\n",
        b"HD t30\r\nVA 1 t30\r\n6\r\n",
    ),
    Case(
        "ma of what is no number",
        b"ms a 3 F5 E100\r\nfoo\r\nma a\r\nma a q\r\nms b 0\r\n\r\nma b C5\r\n",
        b"HD\r\nCLIENT_ERROR cannot increment or decrement non-numeric value\r\n"
        b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\nHD\r\n"
        b"CLIENT_ERROR cannot increment or decrement non-numeric value\r\n",
    ),
    Case(
        "ma compares",
        b"ms n 2 E7\r\n10\r\nma n C6\r\nma n C6 q k\r\nma n C7 E8 c v\r\nmg n c\r\n",
        b"HD\r\nEX\r\nEX kn\r\nVA 2 c8\r\n11\r\nHD c8\r\n",
    ),
    Case(
        "ma with an unknown mode",
        b"ma n MX\r\nma n M\r\n",
        b"CLIENT_ERROR invalid mode for ma M token\r\nCLIENT_ERROR invalid mode for ma M token\r\n",
    ),
    Case(
        "ma quietly",
        b"ma n N0 q\r\nma n q v\r\nmg n v\r\n",
        b"VA 1\r\n1\r\n",
    ),
    Case(
        "ma with flags in the order asked",
        b"ms n 2 E7\r\n10\r\nma n O1 t k E9 c v\r\n",
        b"HD\r\nVA 2 O1 t-1 kn c9\r\n11\r\n",
    ),
    Case(
        "a stale item counted in its place stays stale",
        b"ms n 2\r\n10\r\nmd n I E50\r\nma n v\r\n",
        b"HD\r\nHD\r\nVA 2\r\n11\r\n",
    ),
    Case(
        "me of nothing",
        b"me a\r\n",
        b"EN\r\n",
    ),
    Case(
        "meta and classic on one line",
        b"ms a 3 F5 E100\r\nfoo\r\nget a\r\nmg a v\r\nset a 0 0 1\r\nx\r\nmg a v q\r\nmg b v q\r\nmn\r\n",
        b"HD\r\nVALUE a 5 3\r\nfoo\r\nEND\r\nVA 3\r\nfoo\r\nSTORED\r\nVA 1\r\nx\r\nMN\r\n",
    ),
]
