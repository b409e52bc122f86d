# Copyright (c) The vault-plugin-dek authors
# SPDX-License-Identifier: MPL-2.0
"""A model of a tenant's pages: writers that split them, readers, a rotation, and the first bulk write.

Entries: ('page', place) is (key version, items, mark), the mark new with each Put of it; ('page', 'd' + place) is the
page's delta, (key version, changed items, mark of the page that they belong to); ('rec', 0) is (active version, phase of
the rotation); ('key', version). The directory is (places, those that may have a delta, those that this process has put).
H gives each item's hash, C the rules: BASE is the protocol, and each mutation below and in delta.py leaves one out.
"""
from mc import *
C={}
BASE=dict(cap=1,guard=1,recheckleft='list',bothchildren=1,relook=1,tell='after',order='cd',nilroot=1,multi='new',bulkroot=1,bulkorder='cd',bulkempty=1,sharedw=1,ackearly=0,dropdir=1,rootlist=1,getp=1,leftverify=1,hidnil='put',sweepleft=1,
    deltas=0,bound=1,own='put',forget=1,deltafirst=1,dflag='list',sameversion=1,merge=1,tidy=1,rewrite=1,fresh=1,again=1)
H={'x':'00','y':'01','z':'10'}
A=('active',)   # volatile-free: active version is stored under ('rec',0) -> (active, phase)
REC=('rec',0)
def parts(names):
    """What a List shows: the places, and those with a delta."""
    return (tuple(p for p in names if p[:1]!='d'),tuple(p[1:] for p in names if p[:1]=='d'))
def counts(pg,dl): return dl is not None and pg is not None and (dl[2]==pg[2] or not C['bound'])
def merged(pg,dl):
    """The items of a page with those of its delta."""
    if not counts(pg,dl): return pg[1]
    it=dict(pg[1]); it.update(dl[1]); return tuple(sorted(it.items()))
def mark():
    """A new mark; without deltas all are the same, which keeps the states few."""
    if not C['deltas']: return 0
    n=yield('fresh',); return n
def route(d,h):
    for i in range(len(h)+1):
        if h[:i] in d: return h[:i]
    return None
def loaddir():
    d=yield('mget','dir')
    if d is not None: return d
    g=yield('mget','gen')
    L=yield('list','page')
    r=yield('mfun','install',g,L)
    return r
def drop():
    if C['dropdir']: yield('mfun','dropd')
@prog
def write(item,val):
    h=H[item]; tries=0
    yield('ghost','begin',item,val)
    if C['sharedw']: yield('lock','T','S')
    rec=yield('get',REC); act=rec[0]; del rec
    while True:
        tries+=1
        if tries>4: return '500'
        d=yield from loaddir()
        p=route(d[0],h); p='' if p is None else p; del d
        yield('lock','P'+p,'X')
        if C['relook']:
            d=yield from loaddir(); q=route(d[0],h); flag=p in d[1]; own=p in d[2]
            if q is None and p=='':
                d=d[0]
                if C['rootlist']: d=yield('list','page')
                if d: yield from drop(); d=q=None; yield('unlock','P'+p); continue
                new=True; items=()
            elif q!=p: d=q=flag=own=None; yield('unlock','P'+p); continue
            else: new=False
            d=q=None
        else: new=False; flag=False; own=None
        dl=pg=None
        if not new:
            if flag: dl=yield('get',('page','d'+p))
            pg=yield('get',('page',p))
            if pg is None:
                yield from drop()
                if C['hidnil']=='put':
                    d=yield('list','page')
                    if route(parts(d)[0],h)!=p: d=flag=own=dl=pg=None; yield('unlock','P'+p); continue
                    d=None; items=()     # listed under the lock, yet nil: hidden by a stale cache
                else: flag=own=dl=pg=None; yield('unlock','P'+p); continue
            else:
                k=yield('get',('key',pg[0]))
                if k is None: raise Violation('writer: key %s gone'%pg[0])
                k=None; items=merged(pg,dl)
        if C['deltas'] and pg is not None and val is not None and dict(items).get(item)==val and not (C['fresh'] and not own):
            yield('ghost','ack',item,val); return 'ok'     # it was done already: the request is repeated
        it=dict(items); items=None
        if val is None: it.pop(item,None)
        else: it[item]=val
        it=tuple(sorted(it.items()))
        if len(it)<=C['cap'] or len(p)>=2:
            if C['deltas'] and pg is not None and val is not None and (own or C['own']=='any') and (pg[0]==act or not C['sameversion']):
                ch=dict(dl[1]) if counts(pg,dl) else {}
                ch[item]=val; ch=tuple(sorted(ch.items()))
                if len(ch)<C['deltas']+1:
                    if C['dflag']=='before': yield('mfun','wroted',p)
                    r=yield('put',('page','d'+p),(act,ch,pg[2])); it=ch=pg=dl=None
                    if r=='err': yield from drop(); return '500'
                    if C['dflag']=='after': yield('ghost','ack',item,val)
                    yield('mfun','wroted',p)
                    yield('ghost','ack',item,val); return 'ok'
                ch=None
            pg=dl=None
            m=yield from mark()
            r=yield('put',('page',p),(act,it,m)); it=None
            if r=='err': yield from drop(); return '500'
            if new: yield('mfun','tell','',(p,))
            else: yield('mfun','wrote',p)
            yield('ghost','ack',item,val); return 'ok'
        pg=dl=None
        c0=tuple(x for x in it if H[x[0]][len(p)]=='0'); c1=tuple(x for x in it if H[x[0]][len(p)]=='1'); it=None
        r='ok'; m0=yield from mark(); m1=yield from mark()
        if C['tell']=='before': yield('mfun','tell',p,(p+'0',p+'1'))
        for o in C['order']:
            if o=='c':
                if c0 or C['bothchildren']: r=yield('put',('page',p+'0'),(act,c0,m0))
                if r=='err': yield from drop(); return '500'
                if c1 or C['bothchildren']: r=yield('put',('page',p+'1'),(act,c1,m1))
                if r=='err': yield from drop(); return '500'
                if C['ackearly']: yield('ghost','ack',item,val)
            else:
                r=yield('del',('page',p))
                if r=='err': yield from drop(); return '500'
        c0=c1=it=None
        if C['tell']=='after': yield('mfun','tell',p,(p+'0',p+'1'))
        yield('ghost','ack',item,val)
        if flag:
            r=yield('del',('page','d'+p))
            if r=='err': yield from drop()
        return 'ok'
@prog
def bulk(i1,v1,i2,v2):
    # The first write of a tenant, of so much that it splits twice at once: the root,
    # empty, then all pages that are to hold the items, then the root goes.
    yield('ghost','begin',i1,v1); yield('ghost','begin',i2,v2)
    yield('lock','T','S')
    rec=yield('get',REC); act=rec[0]; del rec
    d=yield from loaddir(); del d
    yield('lock','P','X')
    d=yield('list','page'); items=()
    if C['multi']=='new' and d: yield from drop(); return 'page by page'
    if C['multi']=='any':
        if d and '' not in d: return 'page by page'
        if d:
            pg=yield('get',('page',''))
            if pg is None: return '500'
            items=pg[1]; pg=None
    it=dict(items); it[i1]=v1; it[i2]=v2; it=tuple(sorted(it.items())); items=None
    if not d and C['bulkroot']:
        m=yield from mark()
        r=yield('put',('page',''),(act,(),m))
        if r=='err': yield from drop(); return '500'
        yield('mfun','tell','',('',))
    d=None
    leaves=('00','01','10','11')
    if C['bulkorder']=='dc':
        r=yield('del',('page',''))
        if r=='err': yield from drop(); return '500'
    for p in leaves:
        mine=tuple(x for x in it if H[x[0]]==p)
        if not mine and not C['bulkempty']: continue
        r=yield('put',('page',p),(act,mine,0))
        if r=='err': yield from drop(); return '500'
    mine=p=None
    if C['bulkorder']=='cd':
        r=yield('del',('page',''))
        if r=='err': yield from drop(); return '500'
    yield('mfun','tell','',leaves)
    yield('ghost','ack',i1,v1); yield('ghost','ack',i2,v2); return 'ok'
@prog
def read(item):
    h=H[item]; yield('ghost','rbegin',item)
    for t in (1,2,3,4):
        d=yield from loaddir(); p=route(d[0],h); flag=p in d[1]; d=dl=None
        if p is None: yield('ghost','read',item,None); return
        if flag and C['deltafirst']: dl=yield('get',('page','d'+p))
        pg=yield('get',('page',p))
        if flag and not C['deltafirst']: dl=yield('get',('page','d'+p))
        if pg is None: dl=None; yield from drop(); continue
        if not counts(pg,dl): dl=None
        k=yield('get',('key',pg[0]))
        if k is None: 
            if C.get('rretry',1): pg=dl=None; continue
            raise Violation('reader: key of page gone')
        if dl is not None:
            k=yield('get',('key',dl[0]))
            if k is None: pg=dl=None; continue
        yield('ghost','read',item,dict(merged(pg,dl)).get(item)); return
@prog
def sweepone(p,anc,rewrite=False):
    yield('lock','T','S')
    rec=yield('get',REC)
    if anc is not None:
        yield('lock','P'+anc,'X')
        m=C['recheckleft']; ok=True
        if m=='list': L=yield('list','page'); ok=anc in L; L=None
        elif m=='dir': L=yield from loaddir(); ok=anc in L[0]; L=None
        elif m=='get': g=yield('get',('page',anc)); ok=g is not None; g=None
        elif m=='dirget':
            L=yield from loaddir(); g=yield('get',('page',anc)); ok=anc in L[0] and g is not None
            if g is None: yield from drop()
            L=g=None
        if ok:
            r=yield('del',('page',p))
            if r=='err': yield from drop()
            elif C['dropdir']: yield('mfun','tell',p,())
        return
    if p[:1]=='d':
        # A delta without a page.
        yield('lock','P'+p[1:],'X')
        if C['again']:
            r=yield('del',('page',p[1:]))
            if r=='err': yield from drop(); return
        r=yield('del',('page',p))
        if r=='err': yield from drop()
        return
    yield('lock','P'+p,'X')
    L=yield from loaddir(); ok=p in L[0]; flag=p in L[1]; L=dl=None
    if not ok: return
    if flag: dl=yield('get',('page','d'+p))
    pg=yield('get',('page',p))
    if pg is None:
        yield from drop()
        if C['hidnil']=='put':
            L=yield('list','page')
            if p in L: m=yield from mark(); r=yield('put',('page',p),(rec[0],(),m))
        return
    if pg[0]!=rec[0] or rewrite:
        m=yield from mark()
        r=yield('put',('page',p),(rec[0],merged(pg,dl) if C['merge'] else pg[1],m))
        if r=='err': yield from drop(); return
        yield('mfun','wrote',p)
        if rewrite: yield('mfun','rewrote',p,m)
    elif dl is not None and dl[2]==pg[2] or C['tidy']=='shown' and dl is None: return
    pg=dl=None
    if flag and C['tidy']:
        r=yield('del',('page','d'+p))
        if r=='err': yield from drop(); return
        yield('mfun','tidied',p)
@prog
def rot():
    """To version 2; with cancel, back to 1 at any time before the old key goes."""
    yield('lock','T','X')
    rec=yield('get',REC)
    if rec[1]=='idle' and rec[0]==1:
        r=yield('put',REC,(2,'sweeping'))
        while r=='err': r=yield('put',REC,(2,'sweeping'))
        rec=(2,'sweeping')
    yield('unlock','T'); r=None
    if rec[1]=='idle': return
    done=()     # pages that this run has written anew, after a cancel
    while True:
      while rec[1]!='idle':
          rec=yield('get',REC)
          L=yield('list','page'); P,D=parts(L); L=None; todo=()
          for p in P:
              anc=tuple(a for a in P if a!=p and p.startswith(a))
              pg=yield('get',('page',p))
              dl=None; late=False
              if p in D and C['tidy']: dl=yield('get',('page','d'+p)); late=dl is None or dl[0]!=rec[0]
              again=rec[1]=='rollback' and C['rewrite'] and not anc and (p,pg[2] if pg else None) not in done
              if pg is None or pg[0]!=rec[0] or late or again or (anc and C['sweepleft']=='all'):
                  todo+=((p,min(anc,key=len) if anc and C['sweepleft'] else None,again),)
          todo+=tuple(('d'+p,None,False) for p in D if p not in P)
          P=D=anc=pg=p=dl=late=again=None
          if not todo: break
          for t in todo: yield('spawn','w'+t[0],'sweepone',t)
          yield('join',tuple('w'+t[0] for t in todo))
          if rec[1]=='rollback':
              n=yield('mget','done')
              done=n or (); n=None
          t=todo=None
      yield('lock','T','X')
      now=yield('get',REC)
      if now!=rec: rec=now; now=None; yield('unlock','T'); continue
      now=None
      L=yield('list','page'); bad=False
      for p in parts(L)[0]:
        pg=yield('get',('page',p))
        if pg is None or pg[0]!=rec[0]: bad=True
      L=pg=p=None
      if not bad: break
      bad=None
      yield('unlock','T')
    bad=None
    r=yield('put',REC,(rec[0],'retiring'))
    while r=='err': r=yield('put',REC,(rec[0],'retiring'))
    r=yield('del',('key',3-rec[0]))
    while r=='err': r=yield('del',('key',3-rec[0]))
    r=yield('put',REC,(rec[0],'idle'))
    while r=='err': r=yield('put',REC,(rec[0],'idle'))
@prog
def cancel():
    yield('lock','T','X')
    rec=yield('get',REC)
    if rec!=(2,'sweeping'): return
    r=yield('put',REC,(1,'rollback'))
    while r=='err': r=yield('put',REC,(1,'rollback'))
class Split(Model):
    recover=None; init_pages=None
    def init(self,s):
        s.store={REC:(1,'idle'),('key',1):1,('key',2):1}
        for p,v in (self.init_pages or {}).items():
            s.store[('page',p)]=(1,v,0)
            for i,a in v: s.ghost['al',i]=(a,)
    def crashed(self,s,infl):
        if s.store[REC][1]!='idle' or view(s,REC)[1]!='idle': s.thr['rotR']=tstart('rot',()); self.runeager(s,'rotR')
        for k in [k for k in s.ghost if k[0]=='rd']: del s.ghost[k]
    def install(self,n,g,L):
        new=parts(L)+(n.mem.get('kept',()),)
        if C['guard'] and n.mem.get('gen')!=g: return new
        n.mem['dir']=new; return new
    def dropd(self,n):
        d=n.mem.pop('dir',None); n.mem['gen']=((n.mem.get('gen') or 0)+1)%6
        if not C['forget'] and d: n.mem['kept']=d[2]
    def tell(self,n,rem,add):
        n.mem['gen']=((n.mem.get('gen') or 0)+1)%6
        if 'dir' in n.mem:
            d=n.mem['dir']; new=set(add)
            n.mem['dir']=(tuple(sorted((set(d[0])-{rem})|new)),tuple(p for p in d[1] if p!=rem),tuple(sorted((set(d[2])-{rem})|new)) if C['deltas'] else ())
    def rewrote(self,n,p,m): n.mem['done']=tuple(sorted(n.mem.get('done',())+((p,m),)))
    def wrote(self,n,p):
        if C['deltas'] and 'dir' in n.mem and p in n.mem['dir'][0]:
            d=n.mem['dir']; n.mem['dir']=d[:2]+(tuple(sorted(set(d[2])|{p})),)
    def wroted(self,n,p):
        if 'dir' in n.mem and p in n.mem['dir'][1]: return
        if C['dflag']!='nogen': n.mem['gen']=((n.mem.get('gen') or 0)+1)%6
        if 'dir' in n.mem:
            d=n.mem['dir']
            if p in d[0]: n.mem['dir']=(d[0],tuple(sorted(d[1]+(p,))),d[2])
    def tidied(self,n,p):
        if 'dir' in n.mem: d=n.mem['dir']; n.mem['dir']=(d[0],tuple(q for q in d[1] if q!=p),d[2])
    def ghost(self,s,slot,op):
        if op[1]=='begin':
            s.ghost['al',op[2]]=tuple(sorted(set(s.ghost.get(('al',op[2]),(None,)))|{op[3]},key=str))
        elif op[1]=='ack': s.ghost['al',op[2]]=(op[3],)
        elif op[1]=='rbegin': s.ghost['rd',slot]=s.ghost.get(('al',op[2]),(None,)); return
        elif op[1]=='read':
            al=set(s.ghost.pop(('rd',slot),()))|set(s.ghost.get(('al',op[2]),(None,)))
            if op[3] not in al: raise Violation('I1: reader of %s got %s, allowed %s'%(op[2],op[3],al))
            return
        for k in list(s.ghost):
            if k[0]=='rd': s.ghost[k]=tuple(sorted(set(s.ghost[k])|set(s.ghost.get(('al',op[2]),(None,))),key=str))
    def check(self,s):
        L,D=parts(lsub(s,'page')); st=s.store.get; vw=lambda k:view(s,k)
        for nm,get,getd in (('store',st,st),('view',vw,vw))+((('page as stored, delta as seen',st,vw),('page as seen, delta as stored',vw,st)) if D else ()):
            for it,h in H.items():
                al=s.ghost.get(('al',it),(None,)); p=route(L,h)
                pg=get(('page',p)) if p is not None else None
                if p is None and L and h: 
                    raise Violation('I1: hole: no page for %s in %s'%(it,L))
                v=None
                dl=getd(('page','d'+p)) if p is not None else None
                if pg is not None:
                    if counts(pg,dl) and ('key',dl[0]) not in s.store: raise Violation('I3 (%s): delta %s=%s key destroyed'%(nm,p,dl))
                    if ('key',pg[0]) not in s.store and al!=(None,): raise Violation('I3 (%s): live page %s=%s key destroyed'%(nm,p,pg))
                    v=dict(merged(pg,dl)).get(it)
                if v not in al: raise Violation('I1 (%s): %s reads %s allowed %s; pages %s'%(nm,it,v,al,{q:(get(('page',q)),getd(('page','d'+q))) for q in L}))
        rec=s.store[REC]
        if rec[1]=='idle' and ('key',3-rec[0]) not in s.store:
            for q in L:
                if s.store[('page',q)][0]!=rec[0]: raise Violation('I5: page %s on old version'%q)
    def rest(self,s):
        if view(s,REC)[1]!='idle': raise Violation('I4 rest')
def go(nm,cl,err=1,crash=1,init=None,quiet=True,tmax=60,**cfg):
    import mc; mc._int.clear(); mc._tab.clear(); mc._nxt.clear()
    C.clear(); C.update(BASE); C.update(cfg)
    m=Split(); m.clients=cl; m.err=err; m.crash=crash; m.init_pages=init; m.sample=C.pop('samp',0); m.evict=C.pop('evict',False)
    try: return m.run(nm,quiet=quiet,tmax=tmax)
    except Exception as e: print('[%s] EXC %r'%(nm,e),flush=True); raise
W=lambda i,v,after=():('write',(i,v),after,False)
R=lambda i,after=():('read',(i,),after,False)
ROT=('rot',(),(),False)
X1={'':(('x','a'),)}
B=lambda a,b,c,d,after=():('bulk',(a,b,c,d),after,False)
if __name__=='__main__':
    import sys
    bk=B('x','a','y','b')
    print('== bulk into an empty tenant')
    go('bulk + writer e1 c1',{'b':bk,'w':W('z','c')},tmax=200)
    go('bulk + rotation e1 c0',{'b':bk,'r':ROT},crash=0,tmax=200)
    go('bulk, rotation e1 c1',{'b':bk,'r':('rot',(),('b',),False)},tmax=200)
    go('bulk + reader, writer after e1 c1',{'b':bk,'rd':R('x'),'w':W('x','d',('b',))},tmax=200)
    go('bulk, two writers e2 c1',{'b':bk,'w1':W('x','c',('b',)),'w2':W('y','d',('w1',))},err=2,tmax=200)
    go('two bulks e1 c1',{'b':bk,'b2':B('x','c','z','d')},tmax=200)
    go('bulk, split, rotation e2 c0',{'b':bk,'w1':W('x','c',('b',)),'r':('rot',(),('w1',),False)},err=2,crash=0,tmax=200)
    go('writer fails, bulk, writer e2 c1',{'w1':W('x','a'),'b':B('y','b','z','c',('w1',)),'w2':W('x','d',('b',))},err=2,tmax=200)
    print('== mutations')
    go('several levels of a tenant that has pages',{'w1':W('y','b'),'b':B('y','c','z','d',('w1',))},init=X1,err=2,crash=0,multi='any')
    go('no root above the pages',{'b':bk},err=1,crash=1,bulkroot=0)
    go('root goes first',{'b':bk},err=1,crash=1,bulkorder='dc')
    go('empty pages left out',{'b':bk},err=0,crash=0,bulkempty=0)
