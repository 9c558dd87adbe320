"""Function words of languages in Latin script, as evidence that a stretch of text is, or is not, of
a language.

Greetings and thanks are among them: a short answer has little else. Written for this project from
general knowledge. Words of one letter are left out: they are
variables in code and mathematics. A language detector is sure of itself on lists of names; nobody
writes a clause without such words.
"""

from __future__ import annotations

from collections.abc import Mapping

from harness.metrics.language.word_lists import WORD_LISTS

_LISTS = {
    "en": """the of and to in is am was for that with as on are be at by an not it this or
        from have has had which were but his her their its they you your he she we our my me him
        them us i a will would can could should may might must do does did if then than when where
        who whom whose what why how there here all any some no nor so such only just also more
        most other into over under about after before between through during while because
        although though however these those been being up out off down each both few many much
        very too own same again once until against without within upon per let one two first new
        use used using see make made get go like need needs want know don't doesn't isn't it's i'm
        can't won't you're that's ll ve re say said even well every still now never always often
        since word unless whether via around along across cannot shall yes set file""",
    "de": """der die das und ist nicht ein eine einen einem einer eines dem den des mit von zu
        zum zur für auf im ich du er sie es wir ihr sich auch als an aus bei nach wie noch nur
        oder aber wenn dass daß kann wird werden wurde sind hat haben war waren sein ihre seine
        mein über unter durch vor gegen ohne bis hier dort sehr mehr schon doch immer kein keine
        keinen diese dieser dieses man was wo wer warum weil beim vom uns mich mir dich dir ihm
        ihn ihnen jetzt dann so am um muss müssen soll sollte können ja nein danke bitte gern
        gerne natürlich guten hallo vielen klar selbstverständlich leider genau könnte würde
        würden gibt macht machen geht gehen heute morgen alles etwas nichts wieder damit dabei
        dafür daran davon jede jeder jedes ihren ihrem seinen seinem unsere werde wirst bist habe
        hast wollen möchte""",
    "fr": """le la les un une des du de et est pas que qui dans pour sur avec ce cette ces il
        elle nous vous ils elles je tu mon ma mes son sa ses leur leurs au aux en par plus ne se
        sont était ont mais ou où donc car si très comme tout tous toute toutes être avoir fait
        faire peut quand sans sous entre aussi bien même encore alors c'est n'est d'un d'une
        qu'il qu'elle j'ai notre votre cela ça dont chez après avant depuis lui y merci beaucoup
        bonjour bonsoir salut oui rien s'il plaît sûr voilà d'accord problème peuvent peux veux
        veut faut dit dire va vais sera étaient avait avaient ai avons avez sommes êtes suis
        quelque chose jamais aujourd'hui demain maintenant toujours parce lorsque comment
        pourquoi ceux celle celui doit doivent""",
    "es": """el la los las un una unos unas de del que y en es no se por con para su sus al lo
        como más pero le ya o este esta estos estas ese esa sí porque cuando muy sin sobre
        también me hasta hay donde quien desde todo todos nos durante ni contra otros fue ser son
        está están era tiene tienen puede si entre mi mis tu yo él ella ellos nosotros uno así
        bien cada qué cómo aunque hacer hace mientras gracias hola buenos buenas días noches
        tardes amigo amiga adiós muchas mucho luego vale claro eso pueden puedo podemos han hemos
        quiero quiere sé hoy mañana ahora siempre nunca nada algo alguien mejor mismo otra otro
        eran fueron será hacen hago decir ver voy va vamos estoy estamos soy eres somos poco
        estás""",
    "it": """il lo la gli le un uno una di del della dello dei degli delle che e è non si per con
        su nel nella nei nelle al alla ai alle dal dalla da in sono ma come più anche questo
        questa questi queste se io tu lui lei noi voi loro mio mia suo sua ci ha hanno essere era
        quando dove chi cosa molto tutto tutti ogni senza tra fra perché così già ancora fino poi
        solo stato può l'acqua dell dall nell sull c'è grazie prego ciao buongiorno buonasera
        buona buon giornata sì mille certo certamente posso possono voglio vuole devi deve
        dobbiamo fatto detto va vado oggi domani ora sempre niente qualcosa nessuno stesso altra
        altro altri erano sarà faccio sto stai siamo siete cui stia""",
    "pt": """o os as um uma uns umas de do da dos das que e em no na nos nas não é se por com
        para ao aos à às mais mas como foi ele ela eles elas eu nós você vocês seu sua seus suas
        meu minha este esta isto isso esse essa quando muito já também só pelo pela até são está
        estão era ser tem têm há sem sobre entre depois porque onde quem ou nem mesmo cada assim
        então ainda pode obrigado obrigada olá bom boa noite tudo bem sim claro tarde posso podem
        quero quer deve devem fazer feito diz vai vou hoje amanhã agora sempre nunca nada algo
        alguém mesma outro outra outros eram será faço estou estamos sou somos aquele aquela""",
    "nl": """de het een en van is niet dat die te op aan met voor zijn er maar om hem dan zou wat
        mijn men dit zo door over ze zich bij ook tot je mij uit der daar haar naar heb hoe heeft
        hebben deze want nog zal me zij nu ge geen omdat iets worden toch al waren veel meer doen
        moet kan zonder altijd alles onze wij hij ik wordt werd als onder tegen na reeds wie
        werden waar graag gedaan goed nee natuurlijk bedankt alstublieft hallo zeker moeten
        kunnen gaat gaan doet maakt vandaag morgen hier daarom waarom hoeveel niets iemand jullie
        hun zouden wil willen bent kunt zei dankjewel""",
    "sv": """och att det som en är på för av med den till ett inte har de om han hon var jag vi
        ni men sig sin sitt sina från så kan när nu mycket här där också bara efter eller ut vid
        än över under mot mellan utan alla allt detta dessa denna man ska skulle hade blir blev
        mig dig oss hur vad varför mer tack hej nej varsågod gärna bra heter kommer bor morgon""",
    "da": """og at det som en er på for af med den til et ikke har de om han hun var jeg vi men
        sig sin fra så kan når nu meget her der også kun efter eller ud ved end over under mod
        mellem uden alle alt dette disse denne man skal skulle havde bliver blev mig dig os
        hvordan hvad hvorfor mere være tak hej nej gerne godt selvfølgelig hedder kommer bor""",
    "no": """og at det som en er på for av med den til et ikke har de om han hun var jeg vi men
        seg sin fra så kan når nå mye her der også bare etter eller ut ved enn over under mot
        mellom uten alle alt dette disse denne man skal skulle hadde blir ble meg deg oss hvordan
        hva hvorfor mer være takk hei nei gjerne bra selvfølgelig heter kommer bor""",
    "fi": """ja on ei se että oli hän mutta ovat kun niin joka tai myös kuin minä sinä me te he
        olla olen olet olemme eivät ole sen tämä nämä nyt vain jos mitä missä miksi miten kaikki
        hyvin sitten vielä jo kanssa ilman ennen jälkeen koska sitä siitä tätä siellä täällä
        joten voi voidaan kiitos kyllä hyvää päivää paljon huomenta""",
    "hu": """az és hogy nem egy is ez azt de van volt csak meg már még mint ha ki mi én te ő mert
        vagy aki ami amely minden nagyon itt ott lehet kell lesz voltak vannak után előtt között
        nélkül ezért akkor most sem így úgy mindig soha neki nekem benne ezt arra köszönöm igen
        szívesen jó napot reggelt jól""",
    "pl": """nie się na że jest to do jak ale tak co po za od czy już tylko przez dla był była
        było były są ten ta te tego tej tym jego jej ich który która które gdzie kiedy może
        bardzo jeszcze bez pod nad przed między oraz lub więc ponieważ być mnie ja ty on ona my
        oni też tu tam wszystko dziękuję proszę cześć dobry dzień dobrze oczywiście witaj pani""",
    "cs": """je se na že to do jak ale tak co po za od už jen pro byl byla bylo byli jsou ten ta
        tento tato toto jeho její jejich který která které kde když může velmi ještě bez pod nad
        před mezi nebo proto protože být jsem jsi jsme jste není také tady vše ve při podle
        děkuji ano dobrý prosím samozřejmě ahoj dobře""",
    "sk": """je sa na že to do ako ale tak čo po za od už len pre bol bola bolo boli sú ten
        tá tento táto toto jeho jej ich ktorý ktorá ktoré kde keď môže veľmi ešte bez pod nad pred
        medzi alebo preto pretože byť som si sme ste nie je tiež tu všetko vo pri podľa""",
    "ro": """și este nu în că de la cu pe un o mai din care sunt pentru ce se ca sau dar au fost
        lui ei el ea noi voi acest această acestea aceste dacă când unde cum foarte prin fără
        între după până fi era are am avea pot poate toate toți tot mea meu său sa lor doar încă
        mulțumesc bună desigur bine ziua""",
    "tr": """ve bir bu da de için ile çok ne var yok mı mi mu mü olarak daha gibi ama ben sen biz
        siz onlar şu o en kadar sonra önce her şey değil olan olduğu olduğunu ise ya veya ki
        nasıl neden nerede kim hiç bile göre tarafından üzerinde içinde zaman oldu olur teşekkür
        teşekkürler ederim merhaba evet hayır tamam günaydın nasılsın nasılsınız iyi geceler
        günler akşamlar""",
    "id": """yang dan di itu dengan untuk tidak ini dari dalam akan pada juga saya ke karena
        tersebut bisa ada mereka lebih sudah atau saat oleh sebagai adalah kami kita kamu anda
        dia apa jika hanya seperti sangat setiap tanpa antara setelah sebelum bukan banyak satu
        semua masih harus dapat para telah terima kasih selamat pagi baik tentu""",
    "vi": """và là của có không được trong cho một các những người với này đó khi đã đang sẽ rất
        từ đến như để cũng thì mà ở ra vào lại nhiều hơn nhưng nếu vì tôi bạn chúng ta họ anh chị
        em nó gì nào đâu sao trên dưới sau trước bởi theo về cảm ơn xin chào vâng""",
    "ca": """el la els les un una de del dels que i en és no es per amb al als com més però
        ja aquest aquesta aquests quan molt sense sobre també fins hi ha on qui des tot tots
        són està era ser té pot si entre meu meva seu seva jo ell ella ells nosaltres perquè així
        cada""",
    "hr": """je se na da to u za od ne kao ali su bio bila bilo bili ovaj ova ovo njegov
        njihov koji koja koje gdje kada može vrlo još bez pod nad prije između ili zato jer biti
        sam si smo ste nije također ovdje sve kod prema što samo već iz""",
    "sl": """je se na da to in za od ne kot ampak so bil bila bilo bili ta ti njegov njihov
        ki kateri kjer ko lahko zelo še brez pod nad pred med ali zato ker biti sem si smo ste ni
        tudi tukaj vse pri po kaj samo že iz""",
    "et": """ja on ei see et oli ta aga kui siis kes mis või ka nagu mina sina meie teie
        nemad olema olen olid ole seda selle need nüüd ainult miks kuidas kõik väga veel juba ilma
        enne pärast sest seal siin võib""",
    "lv": """un ir nav tas ka bija bet kad tad kas vai arī kā es tu mēs jūs viņi viņš viņa
        būt esmu šis šī šie tagad tikai kāpēc viss ļoti vēl jau bez pirms pēc jo tur šeit var no
        uz ar par pie""",
    "lt": """ir yra ne tai kad buvo bet kai tada kas ar taip pat kaip aš tu mes jūs jie jis
        ji būti esu šis ši šie dabar tik kodėl viskas labai dar jau be prieš po nes ten čia gali
        iš į su apie prie""",
    "sq": """dhe është nuk një në që për me të së nga por kur si kush çfarë ose edhe unë ti
        ne ju ata ai ajo janë ishte ka kanë kjo ky këto tani vetëm pse shumë ende pa para pas
        sepse atje këtu mund""",
    "tl": """ang ng sa mga na ay at ito siya ako ikaw kami tayo sila niya ko mo namin hindi may
        mayroon kung para dahil pero nang din rin lang pa ba kanyang isang ano sino saan kailan
        bakit paano salamat opo kumusta""",
    "sw": """na ya wa kwa ni katika za la cha vya hii hiyo huo kwamba lakini kama au pia sana
        yake wake wao sisi mimi wewe yeye alikuwa ilikuwa kuwa hakuna bila baada kabla sasa hapa
        pale kila moja watu asante karibu habari jambo""",
    "af": """die van en het is nie dat wat te op vir met sy ons hulle hy ek jy maar as ook
        uit by tot na oor wees kan sal moet word geen omdat baie meer alles sonder altyd waar hoe
        hierdie daardie""",
    "cy": """yn yr y mae ac ar i o am wedi nid ei eu ein oedd fod hyn hwn hon ond pan os
        neu gan gyda hefyd iawn mwy bod dim rhaid dros rhwng cyn ar ôl""",
    "so": """waa iyo oo ku ka ay uu in la si aan wax laakiin marka haddii ama sidoo kale
        aad badan wuxuu waxay lahaa ahaa jira mid kasta""",
}

WORDS_BY_LANGUAGE: Mapping[str, frozenset[str]] = {
    language: frozenset(text.split()) for language, text in _LISTS.items()
} | dict(WORD_LISTS)
"""Language code → its function words, lower case."""

_NOMINAL = """a à al alla alle au aux de del della dei degli di da do dos das du des d' l' el la
        las los le les il lo gli o os van von den der ter ten am an en em com avec con met med et
        e y i sur sous sul sulla por per para ng bin ibn"""
NOMINAL = frozenset(_NOMINAL.split())
"""Articles, prepositions and words for "and": they are in the names of cities and dishes as well as
in sentences.
"""

_JARGON = """else elif def none true false const return await async import export var null
        int str bool float dict list tuple class self args kwargs raise yield lambda try except
        pass print len foo bar baz python conda pip npm js css html json yaml config token model
        dataset optimizer schema parser lexer parameters parameter data die todo etc lorem ipsum
        dolor sit amet er alt via qua vs cf eg ie min max std var mean src lib util utils node
        core base code type types name names value values key keys item items index error errors
        test tests function functions object objects method methods module modules array string
        strings number numbers"""
JARGON = frozenset(_JARGON.split())
"""Words of code and of documentation that are no evidence for any language, whatever they are spelt
like.
"""
